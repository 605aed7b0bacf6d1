"""Feature values that come with the request, as clients send them, on a real online store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.redis_address import RedisAddress
from tests.serving_bundles import REQUEST, OnlineStore, overridable, write_linear_bundle
from tests.serving_process import predict, serving

pytestmark = pytest.mark.servers

KNOWN = {"user_id": 1, "category_id": "toys"}
OTHER = {"user_id": 2, "category_id": "toys"}
UNKNOWN = {"user_id": 999, "category_id": "toys"}
AGE, COUNTRY = "user_demographics__age", "user_demographics__country"
ORDERS, ACTIVE = "user_activity__orders_7d", "user_activity__is_active"
VIEWS = "user_category_affinity__views_30d"


@pytest.fixture(name="store", scope="module")
def _store(redis_server: RedisAddress) -> OnlineStore:
    store = OnlineStore(redis_server.url)
    store.write_user(1, "toys", orders=1)
    store.write_user(2, "toys", orders=2)
    return store


@pytest.fixture(name="client", scope="module")
def _client(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisAddress, store: OnlineStore
) -> Iterator[httpx.Client]:
    folder: Path = tmp_path_factory.mktemp("bundle")
    features = overridable(AGE, COUNTRY, ORDERS, VIEWS)
    write_linear_bundle(folder, intercept=-10.0, task="regression", features=features)
    with serving(folder, redis_server.url) as server, server.client() as client:
        yield client


def _answers(client: httpx.Client, rows: list[Any], overrides: Any, **more: Any) -> list[Any]:
    response = predict(client, *rows, feature_overrides=overrides, **more)
    assert response.status_code == 200, response.text
    answers: list[Any] = response.json()["predictions"]
    return answers


def test_a_value_of_the_request_stands_in_for_the_stored_one_in_its_row_only(
    client: httpx.Client,
) -> None:
    plain = _answers(client, [KNOWN, OTHER, KNOWN], None)
    assert [answer["prediction"] for answer in plain] == [-7.5, -6.5, -7.5]
    overridden = _answers(client, [KNOWN, OTHER, KNOWN], [{ORDERS: 5}, None, {}])
    assert [answer["prediction"] for answer in overridden] == [-3.5, -6.5, -7.5]


def test_what_is_overridden_is_shown_as_such_and_the_rest_as_ever(client: httpx.Client) -> None:
    (answer,) = _answers(
        client, [KNOWN], [{ORDERS: 5, COUNTRY: None, VIEWS: 1}], include_features=True
    )
    features = answer["features"]
    for name, value in ((ORDERS, 5), (COUNTRY, None), (VIEWS, 1)):
        assert features[name] == {"value": value, "status": "overridden", "age_seconds": None}
    assert features[ACTIVE]["status"] == features[AGE]["status"] == "present"
    assert features[ACTIVE]["age_seconds"] >= 60


def test_null_counts_as_missing(client: httpx.Client) -> None:
    (answer,) = _answers(client, [KNOWN], [{ORDERS: None}])
    assert answer["prediction"] == -8.5


def test_an_entity_that_the_store_does_not_know_is_predicted_from_what_is_given(
    client: httpx.Client,
) -> None:
    (answer,) = _answers(client, [UNKNOWN], [{AGE: 3, ORDERS: 4, VIEWS: 0.25}])
    assert answer["prediction"] == -10 + 3 + 4 + 0.25


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    age=st.none() | st.integers(-(2**63), 2**63 - 1),
    country=st.none() | st.text(st.characters(codec="utf-8")),
    views=st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False),
)
def test_an_overridden_value_predicts_what_the_same_stored_value_does(
    client: httpx.Client, store: OnlineStore, age: Any, country: Any, views: Any
) -> None:
    user = {"user_id": 7}
    store.write("user_demographics", user, {"age": age, "country": country})
    store.write("user_category_affinity", {"category_id": "toys", **user}, {"views_30d": views})
    stored, given_ = _answers(
        client,
        [{"user_id": 7, "category_id": "toys"}, UNKNOWN],
        [None, {AGE: age, COUNTRY: country, VIEWS: views}],
    )
    assert given_ == stored


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            {ACTIVE: True},
            f"'{ACTIVE}' may not be overridden; those that may are {AGE}, {COUNTRY}, {ORDERS}",
        ),
        ({"user_activity:orders_7d": 1}, "'user_activity:orders_7d' may not be overridden"),
        ({ORDERS: 1.0}, f"{ORDERS} must be an integer of 64 bits, or null"),
        ({ORDERS: True}, f"{ORDERS} must be an integer of 64 bits, or null"),
        ({ORDERS: 2**63}, f"{ORDERS} must be an integer of 64 bits, or null"),
        ({COUNTRY: 3}, f"{COUNTRY} must be a string, or null"),
        ({VIEWS: "1"}, f"{VIEWS} must be a number, or null"),
        ({VIEWS: 1e39}, f"{VIEWS}: 1e+39 is not between -3.4e+38 and 3.4e+38"),
        ([ORDERS], "feature_overrides of a row are an object of values"),
    ],
)
def test_an_override_that_does_not_fit_fails_its_row_only(
    client: httpx.Client, override: Any, message: str
) -> None:
    bad, good = _answers(client, [KNOWN, KNOWN], [override, {ORDERS: 5}])
    assert bad["error"]["code"] == "invalid_feature_override"
    assert bad["error"]["message"].startswith(message)
    assert good == {"prediction": -3.5, "missing_views": []}
    strict = predict(client, KNOWN, feature_overrides=[override], strict=True)
    assert strict.status_code == 422
    assert strict.json()["error"]["message"].startswith(f"entity_rows[0]: {message}")


def test_nothing_is_read_for_a_row_that_is_refused(
    client: httpx.Client, store: OnlineStore
) -> None:
    before = store.client.info("commandstats")["cmdstat_hmget"]["calls"]
    _answers(client, [KNOWN, OTHER], [{ACTIVE: True}, {ACTIVE: True}])
    assert store.client.info("commandstats")["cmdstat_hmget"]["calls"] == before


@pytest.mark.parametrize("overrides", [{}, [], [None, None], "x"])
def test_overrides_that_are_not_one_for_each_row_are_refused(
    client: httpx.Client, overrides: Any
) -> None:
    response = predict(client, KNOWN, feature_overrides=overrides)
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "invalid_request"
    assert (
        "one object, or null, for each of the 1 entity rows" in response.json()["error"]["message"]
    )


def test_a_model_whose_recipe_allows_none_refuses_them_and_does_not_show_them(
    tmp_path: Path, redis_server: RedisAddress, store: OnlineStore
) -> None:
    write_linear_bundle(tmp_path)
    with serving(tmp_path, redis_server.url) as server, server.client() as client:
        response = predict(client, KNOWN, feature_overrides=[{ORDERS: 1}])
        schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert response.status_code == 422
    assert "was trained with allows none" in response.json()["error"]["message"]
    assert "feature_overrides" not in schemas["PredictRequest"]["properties"]


def test_openapi_and_the_model_show_what_may_be_overridden(client: httpx.Client) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    shown = schemas["PredictRequest"]["properties"]["feature_overrides"]["items"]["properties"]
    assert list(shown) == [AGE, COUNTRY, ORDERS, VIEWS]
    assert shown[ORDERS]["type"] == ["integer", "null"]
    assert shown[ORDERS]["description"] == "The orders_7d."
    features = schemas["Prediction"]["properties"]["features"]["properties"]
    assert "overridden" in features[ORDERS]["properties"]["status"]["enum"]
    assert "overridden" not in features[ACTIVE]["properties"]["status"]["enum"]
    told = {
        feature["name"]: feature["overridable"]
        for feature in client.get("/model").json()["features"]
    }
    assert told == {AGE: True, COUNTRY: True, ORDERS: True, ACTIVE: False, VIEWS: True}


def test_metrics_count_overrides_apart_from_what_was_read(
    tmp_path: Path, redis_server: RedisAddress, store: OnlineStore
) -> None:
    write_linear_bundle(tmp_path, features=overridable(ORDERS, AGE))
    with serving(tmp_path, redis_server.url) as server, server.client() as client:
        predict(client, KNOWN, UNKNOWN, feature_overrides=[{ORDERS: 5}, {ORDERS: 5}])
        text = client.get("/metrics").text
    for line in [
        f'serving_feature_overrides_total{{feature="{ORDERS}"}} 2.0',
        f'serving_feature_overrides_total{{feature="{AGE}"}} 0.0',
        f'serving_feature_values_total{{feature="{ORDERS}",status="present"}} 1.0',
        f'serving_feature_values_total{{feature="{ORDERS}",status="missing"}} 1.0',
        'serving_feature_age_seconds_count{view="user_activity"} 1.0',
    ]:
        assert line in text, line


def test_many_rows_of_numbers_are_scored_each_with_its_own_values(
    tmp_path: Path, redis_server: RedisAddress, store: OnlineStore
) -> None:
    features = [feature for feature in overridable(VIEWS) if feature["name"] == VIEWS]
    changes: dict[str, Any] = {"format_version": 3, "request": REQUEST[:1]}
    write_linear_bundle(tmp_path / "1", task="regression", features=features)
    write_linear_bundle(tmp_path / "2", task="regression", features=features, **changes)
    with serving(tmp_path / "1", redis_server.url) as server, server.client() as client:
        plain = _answers(client, [KNOWN] * 10, None)
        mixed = _answers(client, [*[KNOWN] * 9, UNKNOWN], [None, {VIEWS: 8}, *[None] * 8])
    stored = plain[0]["prediction"]
    assert [answer["prediction"] for answer in plain] == [stored] * 10
    assert [answer["prediction"] for answer in mixed] == [stored, 8.0, *[stored] * 7, 0.0]
    rows = [KNOWN | {"basket_usd": worth} for worth in range(10)]
    with serving(tmp_path / "2", redis_server.url) as server, server.client() as client:
        given = _answers(client, rows, None)
    assert [answer["prediction"] for answer in given] == [stored + worth for worth in range(10)]

"""The API as clients see it: the real server, a real online store."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from contract.redis_address import RedisAddress
from serving.http_errors import RESPONSES
from tests.serving_bundles import ENTITY_KEYS, OnlineStore, manifest, write_linear_bundle
from tests.serving_process import Serving, predict, serving

pytestmark = pytest.mark.servers

KNOWN = {"user_id": 1, "category_id": "toys"}
UNKNOWN = {"user_id": 999, "category_id": "toys"}


@pytest.fixture(name="store", scope="module")
def _store(redis_server: RedisAddress) -> OnlineStore:
    store = OnlineStore(redis_server.url)
    for user_id in range(1, 41):
        store.write_user(user_id, "toys", orders=user_id)
    user = {"user_id": 50}
    store.write("user_demographics", user, {"age": 2**53 + 1, "country": None}, age=10)
    store.write("user_activity", user, {"orders_7d": 1, "is_active": False}, age=604_900)
    return store


@pytest.fixture(name="server", scope="module")
def _server(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisAddress, store: OnlineStore
) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("bundle")
    write_linear_bundle(folder, intercept=-10.0)
    with serving(
        folder, redis_server.url, SERVING_MAX_ROWS="200", SERVING_MAX_BODY_BYTES="20000"
    ) as server:
        yield server


@pytest.fixture(name="client")
def _client(server: Serving) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def _probability(orders: int) -> float:
    return float(1 / (1 + np.exp(-2 * (-10 + orders + 1 + 0.5))))


def test_a_row_is_predicted_from_its_entity_keys(client: httpx.Client) -> None:
    answer = predict(client, KNOWN).json()
    assert answer["model"]["name"] == "purchase"
    (prediction,) = answer["predictions"]
    assert prediction["prediction"] == 0
    assert prediction["probabilities"]["1"] == pytest.approx(_probability(1), abs=1e-6)
    assert "features" not in prediction


@pytest.mark.parametrize("count", [2, 128, 129, 200])
def test_rows_are_answered_in_their_order(client: httpx.Client, count: int) -> None:
    users = [i % 40 + 1 for i in range(count)][::-1]
    rows = [{"user_id": user, "category_id": "toys"} for user in users]
    predictions = predict(client, *rows).json()["predictions"]
    shares = [prediction["probabilities"]["1"] for prediction in predictions]
    assert shares == pytest.approx([_probability(user) for user in users], abs=1e-6)


def test_features_are_shown_with_status_and_age_on_request(client: httpx.Client) -> None:
    row = {"user_id": 50, "category_id": "toys"}
    (answer,) = predict(client, row, include_features=True).json()["predictions"]
    features = answer["features"]
    assert features["user_demographics__age"]["value"] == 2**53 + 1
    statuses = {name: feature["status"] for name, feature in features.items()}
    assert statuses == {
        "user_demographics__age": "present",
        "user_demographics__country": "null",
        "user_activity__orders_7d": "expired",
        "user_activity__is_active": "expired",
        "user_category_affinity__views_30d": "missing",
    }
    assert 10 <= features["user_demographics__country"]["age_seconds"] < 100
    assert features["user_category_affinity__views_30d"]["age_seconds"] is None


def test_an_unknown_entity_is_predicted_with_every_feature_missing(client: httpx.Client) -> None:
    (answer,) = predict(client, UNKNOWN).json()["predictions"]
    expected = 1 / (1 + np.exp(2 * 10))
    assert answer["probabilities"]["1"] == pytest.approx(expected, abs=1e-6)


def test_a_bad_row_does_not_fail_the_others(client: httpx.Client) -> None:
    response = predict(client, KNOWN, {"user_id": "x", "category_id": "toys"}, KNOWN)
    first, bad, last = response.json()["predictions"]
    assert first == last
    assert bad == {
        "error": {
            "code": "invalid_entity_row",
            "message": "user_id must be an integer of 64 bits",
        }
    }


def test_rows_that_are_all_bad_are_answered_one_by_one(client: httpx.Client) -> None:
    response = predict(client, {}, 7, None)
    assert response.status_code == 200
    codes = [answer["error"]["code"] for answer in response.json()["predictions"]]
    assert codes == ["invalid_entity_row"] * 3


def test_a_strict_request_fails_as_a_whole_and_names_the_row(client: httpx.Client) -> None:
    response = predict(client, KNOWN, {"user_id": 1}, strict=True)
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["code"] == "invalid_entity_row"
    assert error["message"] == "entity_rows[1]: category_id is missing"


def test_a_stored_value_of_another_type_fails_its_row_only(
    client: httpx.Client, store: OnlineStore
) -> None:
    from tests.serving_bundles import redis_field, value_proto

    name = store.write("user_demographics", {"user_id": 60}, {"age": 1, "country": "NL"})
    store.client.hset(name, redis_field("user_demographics", "age"), value_proto("string", "x"))
    bad = {"user_id": 60, "category_id": "toys"}
    answers = predict(client, bad, KNOWN).json()["predictions"]
    assert answers[0]["error"]["code"] == "invalid_online_value"
    assert answers[1]["prediction"] == 0
    assert predict(client, bad, strict=True).status_code == 503


def test_a_stored_time_that_is_no_time_fails_its_row_only(
    client: httpx.Client, store: OnlineStore
) -> None:
    name = store.write("user_activity", {"user_id": 61}, {"orders_7d": 1, "is_active": True})
    store.client.hset(name, "_ts:user_activity", b"\x08\xff")
    bad = {"user_id": 61, "category_id": "toys"}
    answers = predict(client, bad, KNOWN).json()["predictions"]
    assert answers[0]["error"]["code"] == "invalid_online_value"
    assert answers[1]["prediction"] == 0


def test_a_value_beyond_float32_fails_its_row_only(
    tmp_path: Path, redis_server: RedisAddress, store: OnlineStore
) -> None:
    write_linear_bundle(tmp_path, task="regression")
    both = {"category_id": "inf", "user_id": 1}
    store.write("user_category_affinity", both, {"views_30d": float("inf")})
    with serving(tmp_path, redis_server.url) as server, server.client() as client:
        answers = predict(client, both, KNOWN).json()["predictions"]
        assert predict(client, both, strict=True).status_code == 503
        text = client.get("/metrics").text
    assert answers[0]["error"] == {
        "code": "invalid_online_value",
        "message": "the online store's user_category_affinity:views_30d: inf is not between "
        "-3.4e+38 and 3.4e+38",
    }
    assert answers[1] == {"prediction": 2.5, "missing_views": []}
    assert 'serving_prediction_value_bucket{le="10.0"} 1.0' in text


def test_an_answer_that_is_no_finite_number_is_no_answer(
    tmp_path: Path, redis_server: RedisAddress, store: OnlineStore
) -> None:
    write_linear_bundle(tmp_path, intercept=math.inf, task="regression")
    with serving(tmp_path, redis_server.url) as server, server.client() as client:
        answers = predict(client, KNOWN).json()["predictions"]
        assert predict(client, KNOWN, strict=True).status_code == 500
    assert answers[0]["error"]["code"] == "prediction_failed"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "the body is not JSON"),
        ("", "the body is not JSON"),
        ("[]", "the body is not an object"),
        ("{}", "entity_rows must be a list"),
        ('{"entity_rows": []}', "entity_rows must be a list of one or more"),
        ('{"entity_rows": {}}', "entity_rows must be a list"),
        (
            '{"entity_rows": [{}], "featuers": 1}',
            "'featuers' is not a field; those are entity_rows, ",
        ),
        ('{"entity_rows": [{}], "strict": 1}', "strict must be true or false"),
    ],
)
def test_a_request_that_cannot_be_read_is_refused(
    client: httpx.Client, body: str, message: str
) -> None:
    response = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "invalid_request"
    assert message in response.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_that_is_not_declared_as_json_is_refused(client: httpx.Client, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    response = client.post("/predict", content=b'{"entity_rows": [{}]}', headers=headers)
    assert response.status_code == 415


def test_too_many_rows_or_bytes_are_refused(client: httpx.Client) -> None:
    rows = predict(client, *[KNOWN] * 201)
    assert (rows.status_code, rows.json()["error"]["code"]) == (413, "request_too_large")
    assert "201 entity rows; the limit is 200" in rows.json()["error"]["message"]
    large = predict(client, {"user_id": 1, "category_id": "x" * 20_000})
    assert (large.status_code, large.json()["error"]["code"]) == (413, "request_too_large")


def test_every_answer_carries_the_requests_id(client: httpx.Client) -> None:
    given = client.get("/health", headers={"X-Request-ID": "abc-1.x"})
    assert given.headers["X-Request-ID"] == "abc-1.x"
    forged = client.get("/nope", headers={"X-Request-ID": "a b\t{}"})
    assert forged.headers["X-Request-ID"] != "a b\t{}"
    assert forged.json()["error"]["request_id"] == forged.headers["X-Request-ID"]
    two = {client.get("/health").headers["X-Request-ID"] for _ in range(2)}
    assert len(two) == 2


def test_unknown_paths_and_methods_have_the_same_shape_of_error(client: httpx.Client) -> None:
    missing = client.get("/nope")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    root = client.get("/").json()["error"]["message"]
    assert root == missing.json()["error"]["message"]
    for path in ("/docs", "/predict"):
        assert path in root
        assert client.get(path).status_code in {200, 405}
    method = client.get("/predict")
    assert (method.status_code, method.json()["error"]["code"]) == (405, "method_not_allowed")
    assert method.headers["Allow"] == "POST"


def test_health_readiness_and_model_are_told(client: httpx.Client) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {
        "ready": True,
        "model": True,
        "online_store": True,
        "features_stale": False,
        "features_changed": False,
        "draining": False,
    }
    model = client.get("/model").json()
    assert model["name"] == "purchase"
    assert model["metrics"] == {"roc_auc": 0.8}
    assert model["lineage"] == {"git_commit": "abc"}
    assert [feature["name"] for feature in model["features"]] == [
        feature["name"] for feature in manifest()["features"]
    ]
    assert model["refused_version"] is None


def test_metrics_count_requests_features_and_predictions(
    tmp_path: Path, redis_server: RedisAddress, store: OnlineStore
) -> None:
    write_linear_bundle(tmp_path)
    with serving(tmp_path, redis_server.url) as server, server.client() as client:
        predict(client, KNOWN, {"user_id": 50, "category_id": "toys"}, UNKNOWN, {})
        client.get("/nope")
        text = client.get("/metrics").text
    for line in [
        'serving_request_seconds_count{route="/predict",status="200"} 1.0',
        'serving_request_seconds_count{route="other",status="404"} 1.0',
        "serving_redis_seconds_count 1.0",
        "serving_rows_total 3.0",
        'serving_row_errors_total{code="invalid_entity_row"} 1.0',
        'serving_feature_values_total{feature="user_activity__orders_7d",status="present"} 1.0',
        'serving_feature_values_total{feature="user_activity__orders_7d",status="expired"} 1.0',
        'serving_feature_values_total{feature="user_activity__orders_7d",status="missing"} 1.0',
        'serving_feature_values_total{feature="user_demographics__country",status="null"} 1.0',
        'serving_feature_age_seconds_count{view="user_activity"} 2.0',
        'serving_predictions_total{class="1"} 2.0',
        'serving_prediction_probability_count{class="1"} 3.0',
    ]:
        assert line in text, line
    assert "process_resident_memory_bytes" in text
    assert 'serving_model_info{name="purchase",version=' in text


def test_logs_are_json_with_request_ids_and_without_payloads(
    tmp_path: Path, redis_server: RedisAddress, store: OnlineStore
) -> None:
    write_linear_bundle(tmp_path)
    url = redis_server.url.replace("redis://", "redis://default:@")
    with serving(tmp_path, url) as server, server.client() as client:
        row = {"user_id": 1, "category_id": "a-private-word"}
        client.post("/predict", json={"entity_rows": [row]}, headers={"X-Request-ID": "mine"})
        client.get("/nope?token=a-private-word")
        server.stop()
    assert all(isinstance(line, dict) for line in server.lines)
    requests = [line for line in server.lines if line["message"] == "request"]  # type: ignore[index]
    assert requests[0]["request_id"] == "mine"  # type: ignore[index]
    assert requests[0]["status"] == 200  # type: ignore[index]
    assert "a-private-word" not in json.dumps(server.lines)


def test_openapi_shows_the_real_keys_features_and_classes(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    row = schemas["EntityRow"]
    assert row["properties"]["user_id"]["type"] == "integer"
    assert row["properties"]["user_id"]["description"] == "The user."
    assert row["examples"] == [{key["name"]: key["example"] for key in ENTITY_KEYS}]
    assert schemas["PredictRequest"]["properties"]["entity_rows"]["maxItems"] == 200
    assert schemas["Prediction"]["properties"]["prediction"]["enum"] == [0, 1]
    orders = schemas["Prediction"]["properties"]["features"]["properties"][
        "user_activity__orders_7d"
    ]
    assert orders["description"] == "The orders_7d. Expires after 604800 s."
    assert "security" not in document
    documented = set(document["paths"]["/predict"]["post"]["responses"])
    assert documented == {"200", "500"} | {str(error.status) for error in RESPONSES}


def test_docs_need_nothing_from_the_internet(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "http://" not in page.text
    assert "https://" not in page.text
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"):
        assert f"docs/assets/{name}" in page.text
        assert client.get(f"/docs/assets/{name}").status_code == 200
    assert client.get("/docs/assets/redoc.standalone.js").status_code == 404
    assert client.get("/docs/assets/..%2fapp.py").status_code == 404


def test_a_regressions_openapi_says_number(
    tmp_path: Path, redis_server: RedisAddress, store: OnlineStore
) -> None:
    features: list[dict[str, Any]] = manifest()["features"]
    keys = [key | {"example": None, "description": ""} for key in ENTITY_KEYS]
    write_linear_bundle(tmp_path, task="regression", entity_keys=keys, features=features)
    with serving(tmp_path, redis_server.url) as server, server.client() as client:
        schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["Prediction"]["properties"]["prediction"]["type"] == "number"
    assert "probabilities" not in schemas["Prediction"]["properties"]
    assert "examples" not in schemas["EntityRow"]

"""Rows for which a view has nothing: always said, and predicted, null or refused by the recipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract.redis_address import RedisAddress
from runner.commands.cloud import smoke_test
from runner.commands.cloud.api_client import ApiClient
from runner.errors import RunnerError
from tests.serving_bundles import OnlineStore, manifest, overridable, write_linear_bundle
from tests.serving_process import predict, serving

pytestmark = pytest.mark.servers

KNOWN = {"user_id": 1, "category_id": "toys"}
NO_CATEGORY = {"user_id": 1, "category_id": "unknown"}
UNKNOWN = {"user_id": 999, "category_id": "toys"}
VIEWS = ["user_demographics", "user_activity", "user_category_affinity"]


@contextmanager
def served(folder: Path, redis: RedisAddress, **changes: Any) -> Iterator[httpx.Client]:
    OnlineStore(redis.url).write_user(1, "toys", orders=1)
    write_linear_bundle(folder, **changes)
    with serving(folder, redis.url) as server, server.client() as client:
        yield client


def test_views_that_have_nothing_are_named_and_the_row_is_predicted(
    tmp_path: Path, redis_server: RedisAddress
) -> None:
    overrides = overridable("user_activity__orders_7d")
    with served(tmp_path, redis_server, task="regression", features=overrides) as client:
        answers = predict(client, KNOWN, NO_CATEGORY, UNKNOWN).json()["predictions"]
        given = [{"user_activity__orders_7d": 3}]
        (said,) = predict(client, UNKNOWN, feature_overrides=given).json()["predictions"]
    assert [answer["missing_views"] for answer in answers] == [[], VIEWS[2:], VIEWS]
    assert all(isinstance(answer["prediction"], float) for answer in answers)
    assert said["missing_views"] == [VIEWS[0], VIEWS[2]]  # the request brought a value of one


def test_by_view_a_row_is_answered_with_null_or_refused(
    tmp_path: Path, redis_server: RedisAddress
) -> None:
    rules = {"user_category_affinity": "null", "user_activity": "error"}
    with served(tmp_path, redis_server, on_missing_entity=rules, format_version=3) as client:
        unknown = [UNKNOWN | {"user_id": user} for user in range(1000, 1020)]
        many = predict(client, *unknown, strict=True)
        ready = client.get("/ready").json()
        response = predict(client, KNOWN, NO_CATEGORY, UNKNOWN)
        strict = predict(client, UNKNOWN, strict=True)
        with pytest.raises(RunnerError, match=r"answers 422: .*nothing is stored for these keys"):
            smoke_test._answered(ApiClient(str(client.base_url)), "m", "1", UNKNOWN)
        schema = client.get("/openapi.json").json()["components"]["schemas"]["Prediction"]
        metrics = client.get("/metrics").text
    good, null, refused = response.json()["predictions"]
    assert good["prediction"] in {0, 1}
    assert null == {
        "prediction": None,
        "probabilities": {"0": None, "1": None},
        "missing_views": ["user_category_affinity"],
    }
    assert refused["error"]["code"] == "missing_entity"
    told = " and ".join(VIEWS) + ": nothing is stored for these keys"
    assert refused["error"]["message"] == told
    assert strict.status_code == many.status_code == 422
    assert not ready["features_stale"]  # the request ended with its first row
    assert schema["properties"]["prediction"]["enum"] == [0, 1, None]
    assert schema["properties"]["missing_views"]["items"] == {"enum": VIEWS}
    assert 'serving_row_errors_total{code="missing_entity"} 1.0' in metrics
    assert "serving_rows_total 2.0" in metrics


def test_one_mart_in_two_roles_is_read_by_the_keys_of_each(
    tmp_path: Path, redis_server: RedisAddress
) -> None:
    store = OnlineStore(redis_server.url)
    for user, orders in ((21, 4), (22, 30)):
        store.write("user_activity", {"user_id": user}, {"orders_7d": orders, "is_active": False})
    orders = manifest()["features"][2]
    features = [
        orders | {"name": f"{role}__orders_7d", "role": role, "key_columns": [role]}
        for role in ("giver", "taker")
    ]
    keys = [{"name": role, "dtype": "int64"} for role in ("giver", "taker")]
    changes = {"features": features, "entity_keys": keys, "format_version": 3}
    with served(tmp_path, redis_server, task="regression", **changes) as client:
        rows = [{"giver": 21, "taker": 22}, {"giver": 22, "taker": 22}, {"giver": 22, "taker": 0}]
        answers = predict(client, *rows, include_features=True).json()["predictions"]
        metrics = client.get("/metrics").text
        wrong = predict(client, {"user_id": 21, "taker": 22}).json()["predictions"][0]
    assert [answer["prediction"] for answer in answers] == [34.0, 60.0, 30.0]
    assert answers[0]["features"]["giver__orders_7d"]["value"] == 4
    assert answers[2]["missing_views"] == ["user_activity[taker]"]
    assert wrong["error"]["message"] == "giver is missing"
    assert 'serving_feature_age_seconds_count{view="user_activity[giver]"} 3.0' in metrics

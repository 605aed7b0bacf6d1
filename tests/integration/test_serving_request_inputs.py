"""Model inputs that clients send beside the entity keys, on a real server and online store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.bundle_reader import read_bundle
from contract.redis_address import RedisAddress
from contract.scoring import load_model
from tests.serving_bundles import REQUEST, OnlineStore, write_linear_bundle
from tests.serving_process import predict, serving

pytestmark = pytest.mark.servers

NEW = {"format_version": 3, "request": REQUEST, "task": "regression"}
ROW = {
    "user_id": 1,
    "category_id": "toys",
    "basket_usd": 10,
    "items": 2,
    "weight": 0.5,
    "is_gift": True,
    "channel": "app",
}
TYPES = {
    "basket_usd": pa.float64(),
    "items": pa.int64(),
    "weight": pa.float32(),
    "is_gift": pa.bool_(),
    "channel": pa.string(),
}


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("bundle")
    write_linear_bundle(folder, **NEW)
    return folder


@pytest.fixture(name="client", scope="module")
def _client(folder: Path, redis_server: RedisAddress) -> Iterator[httpx.Client]:
    OnlineStore(redis_server.url).write_user(1, "toys", orders=1)
    with serving(folder, redis_server.url) as server, server.client() as client:
        yield client


def _answers(client: httpx.Client, *rows: Any, **more: Any) -> list[Any]:
    response = predict(client, *rows, **more)
    assert response.status_code == 200, response.text
    answers: list[Any] = response.json()["predictions"]
    return answers


def test_what_is_sent_is_a_model_input_beside_what_is_stored(client: httpx.Client) -> None:
    (answer,) = _answers(client, ROW)
    assert answer == {"prediction": 2.5 + 10 + 2 + 0.5 + 1, "missing_views": []}


def test_null_is_a_missing_value(client: httpx.Client) -> None:
    (answer,) = _answers(client, ROW | {"basket_usd": None, "channel": None})
    assert answer["prediction"] == 2.5 + 2 + 0.5 + 1


def test_include_features_shows_them_with_the_status_request(client: httpx.Client) -> None:
    (answer,) = _answers(client, ROW | {"is_gift": None}, include_features=True)
    shown = answer["features"]
    assert shown["channel"] == {"value": "app", "status": "request", "age_seconds": None}
    assert shown["is_gift"] == {"value": None, "status": "request", "age_seconds": None}
    assert shown["user_activity__orders_7d"]["status"] == "present"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channel": ...}, "channel is missing; send null if it is not known"),
        ({"channel": 7}, "channel must be a string, or null"),
        ({"items": 2.0}, "items must be an integer of 64 bits, or null"),
        ({"items": 2**63}, "items must be an integer of 64 bits, or null"),
        ({"is_gift": 1}, "is_gift must be true or false, or null"),
        ({"basket_usd": "10"}, "basket_usd must be a number, or null"),
        ({"basket_usd": True}, "basket_usd must be a number, or null"),
        ({"weight": 1e39}, "weight: 1e+39 is not between -3.4e+38 and 3.4e+38"),
        (
            {"chanel": "app"},
            "'chanel' is neither an entity key (category_id, user_id) nor a request input",
        ),
    ],
)
def test_what_does_not_fit_fails_its_row_only(
    client: httpx.Client, changes: dict[str, Any], message: str
) -> None:
    wrong = {name: value for name, value in (ROW | changes).items() if value is not ...}
    bad, good = _answers(client, wrong, ROW)
    assert bad["error"]["code"] == "invalid_entity_row"
    assert bad["error"]["message"].startswith(message)
    assert good["prediction"] == 16.0


VALUES = st.fixed_dictionaries(
    {
        "basket_usd": st.none() | st.floats(-1e6, 1e6) | st.integers(-(2**53), 2**53),
        "items": st.none() | st.integers(-(2**63), 2**63 - 1),
        "weight": st.none() | st.floats(-1e6, 1e6, allow_nan=False),
        "is_gift": st.none() | st.booleans(),
        "channel": st.none() | st.text(st.characters(codec="utf-8")),
    }
)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(VALUES, min_size=1, max_size=5))
def test_a_row_over_http_is_scored_as_the_same_row_of_a_batch(
    client: httpx.Client, folder: Path, rows: list[dict[str, Any]]
) -> None:
    bundle = read_bundle(folder)
    stored = {f.name: [None] * len(rows) for f in bundle.features}
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in TYPES.items()}
    expected = load_model(bundle).score({**stored, **columns}).labels.tolist()
    unknown = {"user_id": 999, "category_id": "toys"}
    answers = _answers(client, *({**unknown, **row} for row in rows))
    assert [answer["prediction"] for answer in answers] == expected


def test_openapi_and_the_model_show_them_with_type_description_and_example(
    client: httpx.Client,
) -> None:
    row = client.get("/openapi.json").json()["components"]["schemas"]["EntityRow"]
    assert row["required"] == ["user_id", "category_id", *TYPES]
    assert row["properties"]["basket_usd"] == {
        "type": ["number", "null"],
        "description": "Its worth.",
        "examples": [12.5],
    }
    (example,) = row["examples"]
    assert _answers(client, example)[0].keys() == {"prediction", "missing_views"}
    assert [one["name"] for one in client.get("/model").json()["request"]] == list(TYPES)


def test_a_model_without_entities_and_features_answers_from_the_request_alone(
    tmp_path: Path, redis_server: RedisAddress
) -> None:
    write_linear_bundle(tmp_path, **NEW, features=[], entity_keys=[])
    sent = {name: ROW[name] for name in TYPES}
    with serving(tmp_path, redis_server.url) as server, server.client() as client:
        good, bad = _answers(client, sent, ROW, include_features=True)
        metrics = client.get("/metrics").text
    assert good["prediction"] == 13.5
    assert list(good["features"]) == list(TYPES)
    assert bad["error"]["message"].startswith("'category_id' is neither an entity key (none) nor")
    assert "serving_rows_total 1.0" in metrics

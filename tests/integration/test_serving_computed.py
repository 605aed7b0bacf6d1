"""What the API computes: days since a stored time and derived values, whatever their status."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract.redis_address import RedisAddress
from tests.serving_bundles import (
    OnlineStore,
    manifest,
    redis_field,
    value_proto,
    write_linear_bundle,
)
from tests.serving_process import predict, serving

pytestmark = pytest.mark.servers

DAY = 86_400
LAST, DAYS, ORDERS = (
    f"user_activity__{name}" for name in ("last_order_at", "days_since_last_order_at", "orders_7d")
)
COMPUTED = [
    {
        "name": DAYS,
        "dtype": "float64",
        "expression": ["days_between", ["column", "event_timestamp"], ["column", LAST]],
    },
    {
        "name": "rate",
        "dtype": "float64",
        "expression": ["divide", ["column", ORDERS], ["column", DAYS]],
    },
    {
        "name": "is_gone",
        "dtype": "bool",
        "expression": ["less", ["literal", 30], ["column", DAYS]],
    },
]
VIEW, NAME = LAST.split("__")


def _features() -> list[dict[str, Any]]:
    """Return those of the view `user_activity`, with a time among them that may be overridden."""
    plain = [one for one in manifest()["features"] if one["view"] == VIEW]
    time = {"name": LAST, "feature": NAME, "dtype": "timestamp", "overridable": True}
    return [*plain, plain[0] | time | {"redis_field": redis_field(VIEW, NAME).hex()}]


@pytest.fixture(name="store", scope="module")
def _store(redis_server: RedisAddress) -> OnlineStore:
    return OnlineStore(redis_server.url)


@pytest.fixture(name="client", scope="module")
def _client(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisAddress
) -> Iterator[httpx.Client]:
    folder: Path = tmp_path_factory.mktemp("bundle")
    content = {"format_version": 3, "task": "regression"}
    write_linear_bundle(folder, **content, features=_features(), computed=COMPUTED)
    with serving(folder, redis_server.url) as server, server.client() as client:
        yield client


def _write(store: OnlineStore, user: int, last: int | None, *, age: float = 60.0) -> None:
    name = store.write(VIEW, {"user_id": user}, {"orders_7d": 6, "is_active": True}, age)
    store.client.hset(name, redis_field(VIEW, NAME), value_proto("timestamp", last))


def _shown(client: httpx.Client, user: int, **more: Any) -> tuple[dict[str, Any], float]:
    row = {"user_id": user, "category_id": "toys"}
    response = predict(client, row, include_features=True, **more)
    assert response.status_code == 200, response.text
    (answer,) = response.json()["predictions"]
    return {n: (f["value"], f["status"]) for n, f in answer["features"].items()}, answer[
        "prediction"
    ]


def test_days_are_counted_to_now_and_not_to_the_age_of_the_row(
    client: httpx.Client, store: OnlineStore
) -> None:
    last = int(time.time()) - 2 * DAY
    _write(store, 801, last, age=3 * DAY)
    before = int(time.time())
    shown, prediction = _shown(client, 801)
    days, status = shown[DAYS]
    assert status == "computed"
    assert before <= last + round(days * DAY) <= time.time()
    assert round(days * DAY, 6) % 1 == 0
    assert shown["rate"] == (6 / days, "computed")
    assert shown["is_gone"] == (False, "computed")
    stored = datetime.fromtimestamp(last, UTC)
    assert datetime.fromisoformat(shown[LAST][0]) == stored
    assert prediction == pytest.approx(6 + 1 + days + 6 / days, rel=1e-6)


@pytest.mark.parametrize(
    ("user", "last", "age", "status"),
    [(802, None, 60.0, "null"), (803, 1_700_000_000, 8.0 * DAY, "expired")],
)
def test_a_time_that_is_not_there_gives_nothing(
    client: httpx.Client,
    store: OnlineStore,
    user: int,
    last: int | None,
    age: float,
    status: str,
) -> None:
    _write(store, user, last, age=age)
    shown, _ = _shown(client, user)
    assert shown[LAST] == (None, status)
    assert shown[DAYS] == shown["rate"] == shown["is_gone"] == (None, "computed")


def test_an_entity_that_is_not_there_gives_nothing(client: httpx.Client) -> None:
    shown, _ = _shown(client, 899)
    assert shown[LAST] == (None, "missing")
    assert shown["is_gone"] == (None, "computed")


def test_what_is_computed_follows_an_override(client: httpx.Client, store: OnlineStore) -> None:
    _write(store, 804, int(time.time()) - DAY)
    given = {LAST: "2020-01-01T00:00:00.999+01:00"}
    before = int(time.time())
    shown, _ = _shown(client, 804, feature_overrides=[given])
    assert shown[LAST][1] == "overridden"
    assert shown["is_gone"] == (True, "computed")
    asked = datetime(2019, 12, 31, 23, tzinfo=UTC).timestamp() + round(shown[DAYS][0] * DAY)
    assert before <= asked <= time.time()


def test_a_time_in_the_future_is_negative(client: httpx.Client, store: OnlineStore) -> None:
    _write(store, 805, int(time.time()) + 10 * DAY)
    shown, _ = _shown(client, 805)
    assert -10 <= shown[DAYS][0] < -9

"""The serving log: what a server writes of each answered row, and that no answer waits for it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import redis

from contract.log_format import FIELD, LogEntry, LogSchema, schemas_key, stream_key
from tests.serving_bundles import (
    ENTITY_KEYS,
    PROJECT,
    OnlineStore,
    manifest,
    overridable,
    write_linear_bundle,
)
from tests.serving_process import TIMEOUT, Serving, await_, outcomes, predict, serving

pytestmark = pytest.mark.servers

STREAM = stream_key(PROJECT)


@pytest.fixture(name="store")
def _store(redis_url: str) -> OnlineStore:
    store = OnlineStore(redis_url)
    for user in range(5):
        store.write_user(user, "toys", orders=user)
    return store


def row(user: int) -> dict[str, Any]:
    return {"user_id": user, "category_id": "toys"}


def entries(client: redis.Redis) -> list[LogEntry]:
    found = [LogEntry.parse(fields[FIELD]) for _, fields in client.xrange(STREAM)]
    return [entry for entry in found if entry is not None]


def log_rows(server: Serving) -> dict[str, float]:
    """Return the counters of logged rows in /metrics."""
    with server.client() as client:
        return outcomes(client, "serving_log_rows")


@contextmanager
def logging(folder: Path, store: OnlineStore, **env: str) -> Iterator[Serving]:
    """A server whose log is connected."""
    url = store.client.connection_pool.connection_kwargs
    with serving(folder, f"redis://127.0.0.1:{url['port']}/0", **env) as server:
        server.wait_for("serving log connected")
        yield server


def test_each_answered_row_is_recorded_as_the_model_saw_it(
    tmp_path: Path, store: OnlineStore
) -> None:
    digest = write_linear_bundle(tmp_path, features=overridable("user_activity__orders_7d"))
    store.write("user_demographics", {"user_id": 2}, {"age": None, "country": "DE"})
    with logging(tmp_path, store) as server, server.client() as client:
        overrides = [None, {"user_activity__orders_7d": 9}, None, None]
        answer = client.post(
            "/predict",
            headers={"X-Request-Id": "abc"},
            json={
                "entity_rows": [row(1), row(2), {"user_id": "x", "category_id": "toys"}, row(99)],
                "feature_overrides": overrides,
                "include_features": True,
            },
        ).json()
        await_(lambda: log_rows(server)["recorded"] == 3)
    [entry] = entries(store.client)
    assert (entry.first, entry.bundle, entry.share, entry.rows) == (1, digest, 1.0, 3)
    [(moment, request_id, rows)] = entry.answers
    assert (request_id, abs(time.time() - moment) < TIMEOUT) == ("abc", True)
    assert [logged[0] for logged in rows] == [0, 1, 3]  # the third was refused
    assert [logged[1] for logged in rows] == [[1, "toys"], [2, "toys"], [99, "toys"]]
    assert [logged[3] for logged in rows] == [None, "npopp", "mmmmm"]
    for position, _, values, _, times, label, shares in rows:
        told = answer["predictions"][position]
        assert values == [feature["value"] for feature in told["features"].values()]
        assert label == told["prediction"]
        assert shares == list(told["probabilities"].values())
        assert (times == [None] * 3) == (position == 3)


def test_the_schema_names_what_the_rows_have_in_order(tmp_path: Path, store: OnlineStore) -> None:
    features = [
        feature | {"definition": "d1" if feature["view"] == "user_activity" else None}
        for feature in manifest()["features"]
    ]
    digest = write_linear_bundle(tmp_path, features=features)
    with logging(tmp_path, store) as server, server.client() as client:
        predict(client, row(1))
        await_(lambda: log_rows(server)["recorded"] == 1)
    schema = LogSchema.parse(store.client.hget(schemas_key(PROJECT), digest))
    assert (schema.model, schema.label, schema.classes) == (
        "purchase",
        "is_purchase_7d",
        ("0", "1"),
    )
    assert schema.keys == ("user_id", "category_id")
    assert schema.definitions.keys() == {"user_activity"}
    assert schema.features == tuple(feature["name"] for feature in manifest()["features"])
    [entry] = entries(store.client)
    [(_, _, [(_, _, _, _, times, _, _)])] = entry.answers
    stored = dict(zip(schema.views, times, strict=True))
    assert stored.keys() == {"user_demographics", "user_activity", "user_category_affinity"}
    assert all(50 < time.time() - moment < 60 + TIMEOUT for moment in stored.values())


def test_personal_data_is_left_out_and_keys_are_hashed(tmp_path: Path, store: OnlineStore) -> None:
    features = [
        feature | {"pii": feature["feature"] == "country"} for feature in manifest()["features"]
    ]
    keys = [ENTITY_KEYS[0] | {"pii": True}, ENTITY_KEYS[1]]
    write_linear_bundle(tmp_path, features=features, entity_keys=keys)
    with logging(tmp_path, store) as server, server.client() as client:
        predict(client, row(3))
        await_(lambda: log_rows(server)["recorded"] == 1)
    [(_, [(_, _, [logged])])] = [(entry.first, entry.answers) for entry in entries(store.client)]
    assert logged[1] == [sha256(b"3").hexdigest(), "toys"]
    assert logged[2][1] is None
    assert logged[3] is None  # present, though the log does not have it
    assert b"NL" not in store.client.xrange(STREAM)[0][1][FIELD]


def test_a_large_answer_is_split_and_its_rows_are_numbered_on(
    tmp_path: Path, store: OnlineStore
) -> None:
    write_linear_bundle(tmp_path)
    with logging(tmp_path, store) as server, server.client() as client:
        predict(client, *[row(i % 5) for i in range(300)])
        predict(client, row(1))
        await_(lambda: log_rows(server)["recorded"] == 301)
    found = entries(store.client)
    assert [entry.first for entry in found] == [1, 129, 257] + [301] * (len(found) - 3)
    positions = [logged[0] for entry in found for _, _, rows in entry.answers for logged in rows]
    assert positions == [*range(300), 0]
    assert len({entry.server for entry in found}) == 1


@pytest.mark.parametrize("share", ["0", "0.3"])
def test_a_share_of_the_requests_is_logged(tmp_path: Path, store: OnlineStore, share: str) -> None:
    write_linear_bundle(tmp_path)
    url = store.client.connection_pool.connection_kwargs
    with (
        serving(tmp_path, f"redis://127.0.0.1:{url['port']}/0", SERVING_LOG_SHARE=share) as server,
        server.client() as client,
    ):
        for _ in range(100):
            predict(client, row(1), row(2))
    found = [answer for entry in entries(store.client) for answer in entry.answers]
    assert (len(found) == 0) if share == "0" else 5 < len(found) < 70
    assert all(len(rows) == 2 for _, _, rows in found)


def test_what_waits_is_written_when_the_server_is_told_to_stop(
    tmp_path: Path, store: OnlineStore
) -> None:
    write_linear_bundle(tmp_path)
    with logging(tmp_path, store) as server, server.client() as client:
        for _ in range(20):
            predict(client, row(1))
        server.stop()
    assert sum(entry.rows for entry in entries(store.client)) == 20


def test_a_full_redis_drops_rows_and_fails_no_request(tmp_path: Path, store: OnlineStore) -> None:
    write_linear_bundle(tmp_path)
    with logging(tmp_path, store) as server, server.client() as client:
        store.client.config_set("maxmemory", 1)
        try:
            for _ in range(3):
                assert predict(client, row(1)).status_code == 200
            await_(lambda: log_rows(server)["dropped"] == 3)
        finally:
            store.client.config_set("maxmemory", 0)
        line = server.wait_for("serving log: rows are dropped")
        assert "OOM" in line["reason"]
        assert predict(client, row(1)).status_code == 200
        await_(lambda: log_rows(server)["recorded"] == 1)
    [entry] = entries(store.client)
    assert entry.first == 4  # the gap tells of those that were dropped


def test_the_log_takes_no_more_memory_than_it_may(tmp_path: Path, store: OnlineStore) -> None:
    write_linear_bundle(tmp_path)
    limit = 200_000
    with (
        logging(tmp_path, store, SERVING_LOG_MAX_BYTES=str(limit)) as server,
        server.client() as client,
    ):
        begun = time.monotonic()
        while time.monotonic() < begun + 3.5:
            predict(client, *[row(i % 5) for i in range(100)])
        predict(client, row(1))
        await_(lambda: sum(log_rows(server).values()) % 100 == 1)
        written = log_rows(server)["recorded"]
    assert store.client.memory_usage(STREAM, samples=0) < 2 * limit
    found = entries(store.client)
    kept = sum(entry.rows for entry in found)
    assert written > 2 * kept
    assert found[0].first == written - kept + 1


def test_a_server_whose_redis_has_no_room_for_streams_says_so_once(
    tmp_path: Path, store: OnlineStore
) -> None:
    write_linear_bundle(tmp_path)
    store.client.set(STREAM, "not a stream")
    with logging(tmp_path, store) as server, server.client() as client:
        for expected in (1, 2, 3):
            assert predict(client, row(1)).status_code == 200
            await_(lambda: log_rows(server)["dropped"] == expected)  # noqa: B023 - awaited here
        lines = [line for line in server.lines if isinstance(line, dict)]
        dropped = [line for line in lines if line["message"] == "serving log: rows are dropped"]
        assert len(dropped) == 1


def test_the_instant_of_a_row_is_when_its_features_were_read(
    tmp_path: Path, store: OnlineStore
) -> None:
    write_linear_bundle(tmp_path)
    with logging(tmp_path, store) as server, server.client() as client:
        answer = predict(client, row(1), include_features=True).json()["predictions"][0]
        await_(lambda: log_rows(server)["recorded"] == 1)
    [(moment, _, [logged])] = entries(store.client)[0].answers
    age = answer["features"]["user_demographics__age"]["age_seconds"]
    assert min(abs(moment - at - age) for at in logged[4]) < 0.001
    assert json.loads(json.dumps(moment)) == moment
    assert datetime.fromtimestamp(moment).year >= 2026  # noqa: DTZ006 - a year

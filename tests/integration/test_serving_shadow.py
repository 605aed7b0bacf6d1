"""A shadow answers the champion's requests, for the log only, and clients do not notice."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from mlflow import MlflowClient

from contract.log_format import FIELD, LogEntry, LogSchema, schemas_key, stream_key
from tests.serving_bundles import (
    PROJECT,
    OnlineStore,
    entity_key,
    manifest,
    redis_field,
    register,
    timestamp_proto,
    value_proto,
    write_linear_bundle,
)
from tests.serving_load import load
from tests.serving_process import Serving, await_, outcomes, predict, serving

pytestmark = pytest.mark.servers

ROWS = [{"user_id": user, "category_id": "toys"} for user in range(3)]


@pytest.fixture(name="store")
def _store(redis_url: str) -> OnlineStore:
    store = OnlineStore(redis_url)
    for user in range(3):
        store.write_user(user, "toys", orders=user)
    return store


@pytest.fixture(name="folders")
def _folders(tmp_path: Path) -> tuple[str, str]:
    """Bundles of a champion and of a challenger whose logit is higher by two."""
    champion, challenger = tmp_path / "champion", tmp_path / "challenger"
    write_linear_bundle(champion)
    write_linear_bundle(challenger, intercept=1.0)
    return str(champion), str(challenger)


def shadow_rows(server: Serving) -> dict[str, float]:
    """Return the counters of the shadow's rows in /metrics."""
    with server.client() as client:
        return outcomes(client, "serving_shadow_rows")


def logged(store: OnlineStore) -> dict[bool, list[tuple[str, int, Any]]]:
    """Return request id, position and probability of the rows, by whether it is a shadow's."""
    found: dict[bool, list[tuple[str, int, Any]]] = {False: [], True: []}
    client: redis.Redis = store.client
    for _, fields in client.xrange(stream_key(PROJECT)):
        entry = LogEntry.parse(fields[FIELD])
        assert entry is not None
        for _, request_id, rows in entry.answers:
            found[entry.is_shadow] += [(request_id, row[0], row[6][1]) for row in rows]
    return found


def logit(share: float) -> float:
    return math.log(share / (1 - share))


def test_both_answers_are_logged_and_the_client_sees_the_champions(
    store: OnlineStore, redis_url: str, folders: tuple[str, str]
) -> None:
    champion, challenger = folders
    with serving(champion, redis_url, SERVING_SHADOW=challenger) as server:
        server.wait_for("serving log connected")
        server.wait_for("shadow model loaded")
        with server.client() as client:
            answer = client.post(
                "/predict", headers={"X-Request-Id": "abc"}, json={"entity_rows": ROWS}
            ).json()
        await_(lambda: shadow_rows(server)["answered"] == 3)
        with server.client() as client:
            assert "serving_shadow_info{" in client.get("/metrics").text
            assert "serving_rows_total 3.0" in client.get("/metrics").text  # the champion's only
    rows = logged(store)
    told = [row["probabilities"]["1"] for row in answer["predictions"]]
    assert rows[False] == [("abc", at, pytest.approx(share)) for at, share in enumerate(told)]
    expected = [1 / (1 + math.exp(-logit(share) - 2)) for share in told]
    assert rows[True] == [
        ("abc", at, pytest.approx(share, abs=1e-6)) for at, share in enumerate(expected)
    ]


def test_a_shadow_reads_its_own_version_of_a_view(
    store: OnlineStore, redis_url: str, folders: tuple[str, str], tmp_path: Path
) -> None:
    old, new = "user_activity", "user_activity_v2"
    features = []
    for each in manifest()["features"]:
        if each["view"] == old:
            each |= {"name": f"{new}__{each['feature']}", "view": new}
            each["redis_field"] = redis_field(new, each["feature"]).hex()
        features.append(each)
    for user in range(3):
        fields = {
            redis_field(new, "orders_7d"): value_proto("int64", 100 + user),
            redis_field(new, "is_active"): value_proto("bool", True),
            f"_ts:{new}".encode(): timestamp_proto(time.time() - 60),
        }
        store.client.hset(entity_key({"user_id": user}), mapping=fields)
    write_linear_bundle(tmp_path / "other", features=features)
    with serving(folders[0], redis_url, SERVING_SHADOW=str(tmp_path / "other")) as server:
        server.wait_for("serving log connected")
        server.wait_for("shadow model loaded")
        with server.client() as client:
            assert predict(client, *ROWS).status_code == 200
        await_(lambda: len(logged(store)[True]) == len(logged(store)[False]) == 3)
    seen = {}
    for _, entry_fields in store.client.xrange(stream_key(PROJECT)):
        entry = LogEntry.parse(entry_fields[FIELD])
        assert entry is not None
        [(_, _, rows)] = entry.answers
        schema = LogSchema.parse(store.client.hget(schemas_key(PROJECT), entry.bundle))
        view = new if entry.is_shadow else old
        assert view in schema.views
        place = schema.features.index(f"{view}__orders_7d")
        seen[entry.is_shadow] = [row[2][place] for row in rows]
    assert seen == {False: [0, 1, 2], True: [100, 101, 102]}


def test_a_shadow_that_cannot_answer_is_counted_and_harms_nobody(
    store: OnlineStore, redis_url: str, folders: tuple[str, str], tmp_path: Path
) -> None:
    keys = [*manifest()["entity_keys"], {"name": "shop_id", "dtype": "int64", "description": ""}]
    write_linear_bundle(tmp_path / "other", entity_keys=keys)
    with serving(folders[0], redis_url, SERVING_SHADOW=str(tmp_path / "other")) as server:
        server.wait_for("shadow model loaded")
        with server.client() as client:
            assert predict(client, *ROWS).status_code == 200
        await_(lambda: shadow_rows(server)["failed"] == 3)
    assert len(logged(store)[False]) == 3
    assert logged(store)[True] == []


def test_a_shadow_that_is_not_there_harms_nobody(
    store: OnlineStore, redis_url: str, folders: tuple[str, str], tmp_path: Path
) -> None:
    missing = str(tmp_path / "nothing")
    with (
        serving(folders[0], redis_url, SERVING_SHADOW=missing) as server,
        server.client() as client,
    ):
        server.wait_for("shadow model not loaded")
        assert predict(client, *ROWS).status_code == 200
        assert client.get("/ready").status_code == 200


def test_a_shadow_skips_what_its_share_of_the_time_does_not_allow(
    store: OnlineStore, redis_url: str, folders: tuple[str, str]
) -> None:
    many = [ROWS[0]] * 1_000
    env = {"SERVING_SHADOW": folders[1], "SERVING_SHADOW_SHARE": "0.001"}
    with serving(folders[0], redis_url, **env) as server:
        server.wait_for("shadow model loaded")
        with load(server, *many) as running:
            running.await_status(200, more=60)
        assert not running.lost
        assert shadow_rows(server)["skipped"] > 0


def test_a_sample_of_the_log_is_what_the_shadow_answers(
    store: OnlineStore, redis_url: str, folders: tuple[str, str]
) -> None:
    env = {"SERVING_SHADOW": folders[1], "SERVING_LOG_SHARE": "0.5", "SERVING_SHADOW_SHARE": "1"}
    with serving(folders[0], redis_url, **env) as server:
        server.wait_for("serving log connected")
        server.wait_for("shadow model loaded")
        with server.client() as client:
            for _ in range(40):
                predict(client, ROWS[0])
        await_(lambda: 0 < len(logged(store)[False]) == len(logged(store)[True]))
    rows = logged(store)
    assert 0 < len(rows[True]) < 40
    assert sorted(row[:2] for row in rows[True]) == sorted(row[:2] for row in rows[False])


def test_a_shadow_follows_its_alias_from_the_first_challenger_on(
    store: OnlineStore,
    redis_url: str,
    folders: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # MLflow writes artifacts below it
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow = MlflowClient(uri, uri)
    env = {"SERVING_SHADOW": "models:/purchase@challenger", "SERVING_RELOAD_SECONDS": "0.1"}
    with (
        serving(folders[0], redis_url, MLFLOW_TRACKING_URI=uri, **env) as server,
        server.client() as client,
    ):
        server.wait_for("shadow model not loaded")
        for folder in reversed(folders):
            version = register(uri, Path(folder))
            mlflow.set_registered_model_alias("purchase", "challenger", version)
            shown = f'serving_shadow_info{{name="purchase",version="{version}"}} 1'
            await_(lambda shown=shown: shown in client.get("/metrics").text)
            assert predict(client, *ROWS).status_code == 200
            await_(lambda rows=3 * int(version): len(logged(store)[True]) == rows)
    by_champion, by_shadow = ([row[2] for row in rows] for rows in logged(store).values())
    assert by_shadow[3:] == pytest.approx(by_champion[3:])
    assert logit(by_shadow[0]) - logit(by_champion[0]) == pytest.approx(2, abs=1e-3)

"""An instance without CPU between requests, as on Cloud Run, answers with the champion of now."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contract.model_registry import FolderSource, ModelVersion
from serving.champion_watch import ChampionWatch
from serving.metrics import Metrics
from tests.serving_bundles import PROJECT, OnlineStore, manifest, write_linear_bundle
from tests.serving_process import Serving, predict, serving

pytestmark = pytest.mark.servers

ROW = {"user_id": 1, "category_id": "toys"}
NEVER = "3600"  # by itself, within a test


@contextmanager
def without_cpu(server: Serving) -> Iterator[None]:
    """Take the process its CPU for as long as a stall must last to be one."""
    server.process.send_signal(signal.SIGSTOP)
    yield
    time.sleep(1.6)
    server.process.send_signal(signal.SIGCONT)


def test_a_champion_promoted_while_it_had_no_cpu_is_served_from_the_next_request_on(
    tmp_path: Path, redis_url: str
) -> None:
    write_linear_bundle(tmp_path)
    OnlineStore(redis_url).write_user(1, "toys")
    env = {"SERVING_RELOAD_SECONDS": NEVER}
    with serving(tmp_path, redis_url, **env) as server, server.client() as client:
        before = predict(client, ROW).json()["model"]["version"]
        with without_cpu(server):
            digest = write_linear_bundle(tmp_path, intercept=1.0)
        after = [predict(client, ROW).json()["model"]["version"] for _ in range(2)]
    assert before != digest[:12]
    assert after == [digest[:12]] * 2


def test_a_server_that_never_reloads_does_not_after_a_stall_either(
    tmp_path: Path, redis_url: str
) -> None:
    write_linear_bundle(tmp_path)
    env = {"SERVING_RELOAD_SECONDS": "0"}
    with serving(tmp_path, redis_url, **env) as server, server.client() as client:
        before = predict(client, ROW).json()["model"]["version"]
        with without_cpu(server):
            write_linear_bundle(tmp_path, intercept=1.0)
        assert predict(client, ROW).json()["model"]["version"] == before


class SlowSource(FolderSource):
    """A registry that answers when it is let."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.answers = threading.Event()

    def resolve(self) -> ModelVersion:
        self.answers.wait()
        return super().resolve()


def test_a_registry_that_does_not_answer_keeps_nobody_for_long(tmp_path: Path) -> None:
    write_linear_bundle(tmp_path)
    source = SlowSource(tmp_path)
    source.answers.set()
    watch = ChampionWatch(source, Metrics(), 3600)
    watch.refresh()

    async def ask() -> str:
        source.answers.clear()
        await watch.catch_up(0.05)
        answering = watch.current.version.version
        source.answers.set()
        await watch.stop()
        return answering

    assert asyncio.run(ask()) == source.resolve().version


def test_metrics_say_how_fresh_the_online_store_is(tmp_path: Path, redis_url: str) -> None:
    write_linear_bundle(tmp_path)
    store = OnlineStore(redis_url)
    now = datetime.now(UTC)
    at = now - timedelta(hours=7)
    store.client.hset(
        f"runner:materialize:{PROJECT}:user_activity",
        "watermark",
        json.dumps(
            {
                "as_of": at.isoformat(),
                "compared": {"as_of": (at - timedelta(hours=2)).isoformat()},
                "newest": (at - timedelta(hours=1)).isoformat(),
            }
        ),
    )
    rounds = {"done": (now - timedelta(hours=2)).isoformat(), "failed": "[]"}
    store.client.hset(f"runner:refresh:{PROJECT}", mapping=rounds)
    with serving(tmp_path, redis_url) as server, server.client() as client:
        lines = client.get("/metrics").text.splitlines()
    told = {
        name: float(value)
        for name, value in (
            line.rsplit(" ", 1)
            for line in lines
            if line.startswith(("serving_view", "serving_refresh"))
        )
    }
    for name, hours in {
        'serving_view_materialized_age_seconds{view="user_activity"}': 7,
        'serving_view_compared_age_seconds{view="user_activity"}': 9,
        'serving_view_newest_age_seconds{view="user_activity"}': 8,
        "serving_refresh_age_seconds": 2,
    }.items():
        assert hours * 3600 <= told.pop(name) < hours * 3600 + 60
    assert told == {
        "serving_refresh_failing": 1,
        'serving_view_ttl_seconds{view="user_activity"}': 604_800,
        'serving_view_ttl_seconds{view="user_category_affinity"}': 86_400,
    }


def test_metrics_say_of_each_role_how_fresh_its_view_is_and_that_no_refresh_ever_succeeded(
    tmp_path: Path, redis_url: str
) -> None:
    orders = manifest()["features"][2]
    features = [
        orders | {"name": f"{role}__orders_7d", "role": role, "key_columns": [role]}
        for role in ("giver", "taker")
    ]
    keys = [{"name": role, "dtype": "int64"} for role in ("giver", "taker")]
    write_linear_bundle(tmp_path, features=features, entity_keys=keys, format_version=3)
    store = OnlineStore(redis_url)
    content = json.dumps({"as_of": datetime.now(UTC).isoformat()})
    store.client.hset(f"runner:materialize:{PROJECT}:user_activity", "watermark", content)
    store.client.hset(f"runner:refresh:{PROJECT}", "failed", "[]")
    with serving(tmp_path, redis_url) as server, server.client() as client:
        metrics = client.get("/metrics").text
    for role in ("giver", "taker"):
        for age in ("materialized", "compared"):
            assert f'serving_view_{age}_age_seconds{{view="user_activity[{role}]"}}' in metrics
    assert "serving_refresh_failing 1.0" in metrics
    assert "serving_refresh_age_seconds" not in metrics

"""Materialization under fire: killed at random, two at once, TLS and a password, a cluster."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from google.protobuf.timestamp_pb2 import Timestamp

from runner.errors import RunnerError
from runner.online import lease as online_lease
from runner.online.connection import connect
from runner.online.lease import Lease, holding
from runner.online.materialize import materialize
from runner.online.online_config import load_online_config
from runner.online.view_report import SUPERSEDED
from runner.project.manifest import FeatureMart
from runner.settings import PostgresAddress
from tests import materialize_process
from tests.emulators.certificates import make_certificate
from tests.emulators.redis_servers import move_slot, one_redis, redis_cluster
from tests.instants import at
from tests.online_project import OnlineProject, redis_key, serialized

# Forks each from a process that has imported what they import.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.materialize_process"])


@pytest.fixture
def project(tmp_path: Path, database: PostgresAddress, redis_url: str) -> Iterator[OnlineProject]:
    made = OnlineProject(tmp_path, database, redis_url)
    yield made
    made.sql.close()


def _fill(project: OnlineProject, users: int = 3_000) -> FeatureMart:
    mart = project.mart("v", {"user_id": "int64"}, {"orders": "int64", "device": "string"})
    project.insert(
        mart,
        *[[u, at(-9 + d), at(-9 + d), u * d, f"d{u % 9}"] for u in range(users) for d in range(3)],
    )
    return mart


def _change(project: OnlineProject, mart: FeatureMart, turn: int) -> None:
    """New rows for a third, corrections for a third, deletions for a few, some brand-new."""
    project.insert(
        mart,
        *[[u, at(-2 + turn / 10), at(-2 + turn / 10), turn, "new"] for u in range(turn, 900, 3)],
        *[[u, at(-7), at(-1 + turn / 100), turn, "fix"] for u in range(1_000 + turn, 2_000, 3)],
        *[[u, at(-2), at(-2), turn, None] for u in range(4_000 + turn, 4_300, 7)],
    )
    project.delete(mart, f"user_id between 2500 + {turn} * 20 and 2510 + {turn} * 20")


def _killed_run(project: OnlineProject, full: bool, after: float) -> bool:
    """Start a run in its own process and kill -9 it `after` seconds from its first write."""
    process = _FORKS.Process(
        target=materialize_process.run,
        args=(project.settings, project.marts, 0.0, full),
        daemon=True,
    )
    process.start()
    with project.redis() as client:
        while process.is_alive() and not client.keys("runner:materialize:lease:*"):
            time.sleep(0.001)  # a busy loop would take the processor from what it waits for
    time.sleep(after)  # the random point at which it dies, not a wait for something
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("full", [True, False])
def test_killed_at_any_moment_and_run_again_is_an_uninterrupted_run(
    project: OnlineProject, full: bool
) -> None:
    mart = _fill(project)
    project.materialize(-5)
    chance = random.Random(4)
    deaths = 0
    for turn in range(5):
        _change(project, mart, turn)
        deaths += _killed_run(project, full, chance.uniform(0, 0.15))
        watermark_moved = project.materialize(0)[0]
        assert project.online() == project.expected(0), (turn, watermark_moved)
    assert deaths, "every run ended before it was killed"


def test_the_first_run_killed_half_way_leaves_nothing_behind_that_the_next_does_not_mend(
    project: OnlineProject,
) -> None:
    mart = _fill(project)
    assert _killed_run(project, True, 0.02)
    project.delete(mart, "user_id % 2 = 0")
    project.materialize(0)
    assert project.online() == project.expected(0)


def test_the_watermark_moves_only_after_the_data_is_in(project: OnlineProject) -> None:
    mart = _fill(project, 5_000)

    def fail(_view: str, _rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        materialize(project.settings, [mart], as_of=at(0), progress=fail)
    with project.redis() as client:
        assert b"watermark" not in client.hgetall("runner:materialize:shop:v")
        assert not client.keys("runner:materialize:lease:*"), "the lease is given back"
    assert len(project.online()) < 5_000
    project.materialize(0)
    assert project.online() == project.expected(0)


def test_two_runs_at_once_take_turns(project: OnlineProject) -> None:
    mart = _fill(project)
    project.materialize(-8)
    _change(project, mart, 1)
    notes: list[str] = []
    with ThreadPoolExecutor(max_workers=4) as pool:
        runs = [
            pool.submit(
                materialize,
                project.settings,
                [mart],
                full=bool(n % 2),
                as_of=at(hours),
                note=notes.append,
            )
            for n, hours in enumerate([0, -1, -0.5, -0.2])
        ]
        reports = [run.result()[0] for run in runs]
    assert project.online() == project.expected(0)
    assert any("waiting for the run of process" in note for note in notes)
    late = [report.mode for report in reports if report.mode == SUPERSEDED]
    assert len(late) < 4


def test_a_stock_feast_writer_at_the_same_time_cannot_put_an_older_value_on_top(
    project: OnlineProject,
) -> None:
    """A stranger writes newer values while we write; wherever it did, its value is there."""
    mart = _fill(project)
    stop = threading.Event()
    written: dict[bytes, dict[bytes, bytes]] = {}

    def write_newer() -> None:
        chance = random.Random(1)
        with project.redis() as client:
            while not stop.is_set():
                user = chance.randrange(3_000)
                row = {"event_timestamp": at(-1), "orders": -1, "device": "stranger"}
                key, fields = redis_key(mart, {"user_id": user}), serialized(mart, row)
                client.hset(key, mapping=fields)  # type: ignore[arg-type]
                written[key] = fields

    stranger = threading.Thread(target=write_newer)
    stranger.start()
    for _ in range(3):
        project.materialize(0, full=True)
    stop.set()
    stranger.join()
    online = project.online()
    assert len(written) > 10
    assert {key: online[key] for key in written} == written
    expected = project.expected(0)
    assert {k: v for k, v in online.items() if k not in written} == {
        k: v for k, v in expected.items() if k not in written
    }


def test_a_lease_of_a_process_that_died_here_is_taken_over_at_once(
    project: OnlineProject,
) -> None:
    _fill(project, 10)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with project.redis() as client:
        token = f"{online_lease.host_name()}/{gone.pid}/x"
        client.set("runner:materialize:lease:shop:v", token, px=600_000)
    project.materialize(0)
    assert project.online() == project.expected(0)


@pytest.mark.parametrize("holder", ["elsewhere/1/x", f"{online_lease.host_name()}/1/x"])
def test_a_lease_of_someone_who_may_live_is_waited_for(project: OnlineProject, holder: str) -> None:
    _fill(project, 10)
    with project.redis() as client:
        client.set("runner:materialize:lease:shop:v", holder, px=300)
    notes: list[str] = []
    materialize(project.settings, project.marts, as_of=at(0), note=notes.append)
    assert len(notes) == 1
    assert notes[0].startswith("v: waiting for the run of process 1 on ")
    assert project.online() == project.expected(0)


def test_a_writer_that_lost_its_lease_writes_nothing_more(project: OnlineProject) -> None:
    mart = _fill(project, 6_000)
    stolen: list[int] = []

    def steal(_view: str, rows: int) -> None:
        if not stolen:
            with project.redis() as client:
                client.set("runner:materialize:lease:shop:v", "another")
        stolen.append(rows)

    with pytest.raises(RunnerError, match="another run may have taken over"):
        materialize(project.settings, [mart], as_of=at(0), progress=steal)
    assert len(project.online()) <= 2_000 + 1
    with project.redis() as client:
        assert client.get("runner:materialize:lease:shop:v") == b"another", "not ours to release"


def test_a_lease_is_renewed_while_it_is_ours_and_refused_when_it_is_not(
    project: OnlineProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(project.settings, load_online_config(project.settings)) as connection:
        lease = Lease(connection, "shop", "v")
        lease.acquire(lambda _text: None)
        connection.client.pexpire(lease.key, 100)
        lease.renew()
        assert connection.client.pttl(lease.key) <= 100, "not asked again so soon"
        monkeypatch.setattr(online_lease, "_LEASE_SECONDS", 0)
        monkeypatch.setattr(online_lease.time, "monotonic", lambda: 1e9)
        connection.client.delete(lease.key)
        with pytest.raises(RunnerError, match="taken over"):
            lease.renew()


def test_a_lease_outlives_a_query_that_takes_longer_than_it_lasts(
    project: OnlineProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online_lease, "_LEASE_SECONDS", 0.5)
    monkeypatch.setattr(online_lease, "_RENEWAL_SECONDS", 0.05)
    with connect(project.settings, load_online_config(project.settings)) as connection:
        lease = Lease(connection, "shop", "v")
        with holding(lease, lambda _text: None):
            began = time.monotonic()
            while time.monotonic() - began < 1.5:
                assert connection.client.get(lease.key) == lease.token
        assert connection.client.get(lease.key) is None


def test_redis_that_goes_away_in_the_middle_is_told_plainly(project: OnlineProject) -> None:
    mart = _fill(project, 6_000)

    def cut(_view: str, _rows: int) -> None:
        with project.redis() as client:
            client.client_kill_filter(_type="normal", skipme=True)

    with pytest.raises(redis.exceptions.ConnectionError):
        materialize(project.settings, [mart], as_of=at(0), progress=cut)
    project.materialize(0)
    assert project.online() == project.expected(0)


# --- other kinds of Redis ---


def test_tls_and_a_password_work(tmp_path: Path, database: PostgresAddress) -> None:
    certificate = make_certificate(tmp_path / "certificates")
    with one_redis(tmp_path / "redis", certificate) as store:
        project = OnlineProject(tmp_path, database, store.url)
        mart = _fill(project)
        project.materialize(-5)
        _change(project, mart, 1)
        project.materialize(0)
        assert project.online() == project.expected(0)
        project.sql.close()


def test_a_cluster_of_three_works(tmp_path: Path, database: PostgresAddress) -> None:
    yaml = "project: shop\nonline_store: {key_ttl_seconds: 60, redis_type: redis_cluster}\n"
    with redis_cluster(tmp_path / "redis") as store:
        project = _ClusterProject(tmp_path, database, store.url, yaml=yaml)
        mart = _fill(project)
        project.materialize(-5)
        _change(project, mart, 1)
        report = project.materialize(0)[0]
        assert report.removed > 0
        assert project.online() == project.expected(0)
        key = redis_key(mart, {"user_id": 7})
        later = Timestamp(seconds=int(at(1).timestamp()), nanos=2 * 10**9).SerializeToString()
        of_another_type = b"\x09" + later[1:]
        cut_off, far_away = (b"\x08", b"\x08\xff"), b"\x08" + b"\xff" * 8 + b"\x01"
        for no_time in (*cut_off, far_away, later, of_another_type):
            with project.redis() as client:
                client.hset(key, "_ts:v", no_time)
            materialize(project.settings, [mart], as_of=at(0), full=True)
            assert project.online() == project.expected(0)
        moved: list[str] = []

        def move_once(view: str, _rows: int) -> None:
            if not moved:
                moved.append(view)
                move_slot(store, next(iter(project.online())))

        _change(project, mart, 2)
        project.insert(mart, *[[u, at(-1), at(-1), u, "later"] for u in range(20_000, 30_000)])
        materialize(project.settings, [mart], as_of=at(0), full=True, progress=move_once)
        assert project.online() == project.expected(0)
        _follow_deletions_and_a_stranger(project)
        project.sql.close()


def _follow_deletions_and_a_stranger(project: OnlineProject) -> None:
    """A value that a run wrote and the mart lost is replaced; what another process wrote stays."""
    yaml = project.settings.feature_store_yaml
    yaml.write_text(yaml.read_text().replace("key_ttl_seconds: 60", "key_ttl_seconds: 86400"))
    project.marts.clear()
    every = timedelta(hours=3)
    mart = project.mart("w", {"user_id": "int64"}, {"x": "int64"}, compare_every=every)
    project.insert(mart, *[[u, at(-9), at(-9), u] for u in range(9)])
    others = project.online()
    project.materialize(-2)
    project.insert(mart, [7, at(-1.5), at(-1.5), 70])
    assert project.materialize(-1)[0].compared == at(-2)
    row = serialized(mart, {"event_timestamp": at(-1.2), "x": 80})
    key = redis_key(mart, {"user_id": 8})
    with project.redis() as client:
        client.hset(key, mapping=row)
    project.delete(mart, "x = 70")
    assert project.materialize(0, full=True)[0].kept_newer == 1
    expected = project.expected(0)
    expected[key] = row
    online = project.online()
    assert {
        k: {f: v for f, v in online[k].items() if f in expected[k]} for k in expected
    } == expected
    assert online.keys() == others.keys() | expected.keys()


class _ClusterProject(OnlineProject):
    def redis(self) -> Any:
        return redis.RedisCluster.from_url(self.settings.redis.url)


def test_the_process_that_waits_can_tell_whether_the_holder_lives() -> None:
    own = f"{online_lease.host_name()}/{os.getpid()}/x".encode()
    assert not online_lease._is_dead(own)
    assert not online_lease._is_dead(b"elsewhere/1/x")

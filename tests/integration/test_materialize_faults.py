"""Materialization under fire: killed at random, two at once, TLS and a password, a cluster."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from runner.errors import RunnerError
from runner.features import online_state
from runner.features.materialize import SUPERSEDED, materialize
from runner.features.online_connection import connect, load_online_config
from runner.features.online_state import Lease
from runner.manifest import FeatureMart
from runner.settings import PostgresAddress
from tests import materialize_process
from tests.conftest import free_port
from tests.instants import at
from tests.online_project import OnlineProject, redis_key, serialized

_SPAWN = multiprocessing.get_context("spawn")


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
    process = _SPAWN.Process(
        target=materialize_process.run,
        args=(project.settings, project.marts, 0.0, full),
        daemon=True,
    )
    process.start()
    with project.redis() as client:
        while process.is_alive() and not client.keys("runner:materialize:lease:*"):
            pass
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
        assert client.hkeys("runner:materialize:shop:v") == [b"started"]
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
        token = f"{online_state.host_name()}/{gone.pid}/x"
        client.set("runner:materialize:lease:shop:v", token, px=600_000)
    project.materialize(0)
    assert project.online() == project.expected(0)


@pytest.mark.parametrize("holder", ["elsewhere/1/x", f"{online_state.host_name()}/1/x"])
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

    with pytest.raises(RunnerError, match="another run took over"):
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
        monkeypatch.setattr(online_state, "_LEASE_SECONDS", 0)
        monkeypatch.setattr(online_state.time, "monotonic", lambda: 1e9)
        connection.client.delete(lease.key)
        with pytest.raises(RunnerError, match="took over"):
            lease.renew()


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


@pytest.fixture
def debian_redis() -> str:
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        pytest.skip("needs redis-server on PATH: apt-get install redis-server")
    return found


@pytest.fixture
def start_redis(debian_redis: str, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Starts a server with the given options; all are stopped at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(client: redis.Redis, folder: str, *options: str) -> None:
        data = tmp_path / folder
        data.mkdir()
        command = [debian_redis, "--dir", str(data), "--save", "", *options]
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        _until(lambda: _answers(client))

    yield start
    for process in started:
        process.terminate()
        process.wait()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.ConnectionError:
        return False


def _until(is_true: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "not ready in time"
        time.sleep(0.02)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl on PATH")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


def test_tls_and_a_password_work(
    tmp_path: Path,
    database: PostgresAddress,
    start_redis: Callable[..., None],
    certificate: tuple[Path, Path],
) -> None:
    cert, key = certificate
    port = free_port()
    url = f"rediss://:p%40ss@127.0.0.1:{port}/0?ssl_ca_certs={cert}"
    with redis.Redis.from_url(url) as client:
        tls = ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"]
        tls += ["--tls-cert-file", str(cert), "--tls-key-file", str(key)]
        start_redis(client, "tls", *tls, "--requirepass", "p@ss")
    project = OnlineProject(tmp_path, database, url)
    mart = _fill(project)
    project.materialize(-5)
    _change(project, mart, 1)
    project.materialize(0)
    assert project.online() == project.expected(0)
    project.sql.close()


def test_a_cluster_of_three_works(
    tmp_path: Path, database: PostgresAddress, start_redis: Callable[..., None]
) -> None:
    ports = [free_port() for _ in range(3)]
    for port in ports:
        bus = ["--cluster-port", str(free_port())]
        with redis.Redis(port=port) as client:
            start_redis(
                client, f"node{port}", "--port", str(port), "--cluster-enabled", "yes", *bus
            )
    _join_cluster(ports)
    yaml = "project: shop\nonline_store: {key_ttl_seconds: 60, redis_type: redis_cluster}\n"
    project = _ClusterProject(tmp_path, database, f"redis://127.0.0.1:{ports[0]}/0", yaml=yaml)
    mart = _fill(project)
    project.materialize(-5)
    _change(project, mart, 1)
    report = project.materialize(0)[0]
    assert report.removed > 0
    assert project.online() == project.expected(0)
    moved: list[str] = []

    def move_once(view: str, _rows: int) -> None:
        if not moved:
            moved.append(view)
            _move_a_slot(ports, project)

    _change(project, mart, 2)
    project.insert(mart, *[[u, at(-1), at(-1), u, "later"] for u in range(20_000, 30_000)])
    materialize(project.settings, [mart], as_of=at(0), full=True, progress=move_once)
    assert project.online() == project.expected(0)
    project.sql.close()


class _ClusterProject(OnlineProject):
    def redis(self) -> Any:
        return redis.RedisCluster.from_url(self.settings.redis.url)


def _join_cluster(ports: list[int]) -> None:
    nodes = [redis.Redis(port=port) for port in ports]
    shares = [(0, 5460), (5461, 10922), (10923, 16383)]
    for node, (first, last) in zip(nodes, shares, strict=True):
        node.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
    for other in nodes[1:]:
        bus = int(other.config_get("cluster-port")["cluster-port"])
        port = other.connection_pool.connection_kwargs["port"]
        nodes[0].execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus)
    for node in nodes:
        _until(lambda node=node: b"cluster_state:ok" in _info(node))
        node.close()


def _info(node: redis.Redis) -> bytes:
    text = node.execute_command("CLUSTER", "INFO")
    return text if isinstance(text, bytes) else str(text).encode()


def _move_a_slot(ports: list[int], project: OnlineProject) -> None:
    """Move one slot with keys to another server, behind the client's back."""
    key = next(iter(project.online()))
    with project.redis() as cluster:
        slot = cluster.keyslot(key)
        source = cluster.nodes_manager.get_node_from_slot(slot).port
    target = next(port for port in ports if port != source)
    old, new = redis.Redis(port=source), redis.Redis(port=target)
    old_id, new_id = (n.execute_command("CLUSTER", "MYID") for n in (old, new))
    new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", old_id)
    old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", new_id)
    for moved in old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
        old.execute_command("MIGRATE", "127.0.0.1", target, moved, 0, 5_000)
    for node in (new, old):
        node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", new_id)
        node.close()


def test_the_process_that_waits_can_tell_whether_the_holder_lives() -> None:
    own = f"{online_state.host_name()}/{os.getpid()}/x".encode()
    assert not online_state._is_dead(own)
    assert not online_state._is_dead(b"elsewhere/1/x")

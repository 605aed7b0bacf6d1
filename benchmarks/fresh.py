"""Freshness: from a committed event to the online value that has it, while `runner refresh` runs.

    python -m benchmarks.fresh                        1,000 events/s for a minute, rounds every 5 s
    python -m benchmarks.fresh --seconds 20 --every 2s

Events go into a raw table by plain inserts, ten times a second, each of one of 10,000 users. A
probe asks Redis for the last event of each insert. At the end every user's value must be that of
the last event: none lost, none older.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg

from contract.redis_address import RedisAddress
from runner.online.connection import OnlineConnection, connect
from runner.online.online_config import load_online_config
from runner.online.reader import OnlineReader, seen_values
from runner.project.manifest import load_manifest
from runner.servers import postgres_server, redis_server
from runner.settings import PostgresAddress, Settings, load_settings
from tests.conftest import free_port
from tests.small_project import write_project

_USERS = 10_000
_INSERTS_PER_SECOND = 10
_RECIPE = "recipes/small.yaml"
_INDEX = "indexes=[{'columns': ['user_id', 'event_timestamp'], 'unique': true}]"
_TABLE = """
create schema raw_data;
create table raw_data.readings (
    user_id bigint, event_timestamp timestamptz, amount double precision, text text
);
insert into raw_data.readings values (-1, clock_timestamp(), 0, 'x')
"""
_INSERT = """
insert into raw_data.readings
select n %% %(users)s, clock_timestamp(), n, 'x'
from generate_series(%(first)s::bigint, %(last)s::bigint) as n
"""


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--per-second", type=int, default=1_000)
    parser.add_argument("--every", default="5s")
    asked = parser.parse_args()
    with (
        _project() as settings,
        _refreshing(settings, asked.every) as loop,
        connect(settings, load_online_config(settings)) as connection,
    ):
        online = _Online(settings, connection, load_online_config(settings).project)
        began, cpu = time.monotonic(), _cpu(loop)
        probe = _Probe(online)
        last = _insert(settings, probe, asked.per_second, asked.seconds)
        probe.join()
        share = (_cpu(loop) - cpu) / (time.monotonic() - began)
        wrong = _wrong(online, last)
    lags = sorted(probe.lags)
    p95 = lags[int(len(lags) * 0.95)]
    print(
        f"{last:,} events at {asked.per_second:,}/s, rounds every {asked.every}: "
        f"p50 {statistics.median(lags):.1f} s, p95 {p95:.1f} s, largest {lags[-1]:.1f} s; "
        f"{share:.0%} of a core; {wrong} of {min(last, _USERS):,} users wrong"
    )
    sys.exit(1 if wrong else 0)


class _Online:
    """Reads users' values from Redis over one connection."""

    def __init__(self, settings: Settings, connection: OnlineConnection, project: str) -> None:
        self._mart = load_manifest(settings.manifest_path).marts["reading"]
        self._reader = OnlineReader(connection, self._mart, project)

    def events(self, users: Sequence[int]) -> list[float]:
        """Return each user's last event, 0 where there is none."""
        keys = self._reader.redis_keys([{"user_id": user} for user in users])
        now = datetime.now(UTC)
        rows = [seen_values(self._mart, row, now)[0].value for row in self._reader.read(keys)]
        return [0.0 if value is None else float(str(value)) for value in rows]


class _Probe(threading.Thread):
    """Asks for the last event of each insert until Redis has it; `lags` in seconds."""

    def __init__(self, online: _Online) -> None:
        super().__init__(daemon=True)
        self.lags: list[float] = []
        self.inserted: queue.SimpleQueue[tuple[int, float]] = queue.SimpleQueue()
        self.ended = threading.Event()
        self._online = online
        self.start()

    def run(self) -> None:
        """Ask until Redis has everything that was inserted."""
        waiting: list[tuple[int, float]] = []
        while waiting or not self.ended.is_set() or not self.inserted.empty():
            while not self.inserted.empty():
                waiting.append(self.inserted.get())
            found = self._online.events([event % _USERS for event, _ in waiting])
            now, still = time.monotonic(), []
            for (event, committed), value in zip(waiting, found, strict=True):
                if value >= event:
                    self.lags.append(now - committed)
                else:
                    still.append((event, committed))
            waiting = still
            time.sleep(0.02)

    def join(self, timeout: float | None = None) -> None:
        """Wait until Redis has all of it."""
        self.ended.set()
        super().join(timeout)


def _insert(settings: Settings, probe: _Probe, per_second: int, seconds: int) -> int:
    """Insert events at an even rate; return the number of the last."""
    many, last = per_second // _INSERTS_PER_SECOND, 0
    with psycopg.connect(**settings.postgres.conninfo, autocommit=True) as connection:  # type: ignore[arg-type]
        began = time.monotonic()
        for turn in range(seconds * _INSERTS_PER_SECOND):
            time.sleep(max(0.0, began + turn / _INSERTS_PER_SECOND - time.monotonic()))
            first, last = last + 1, last + many
            connection.execute(_INSERT, {"users": _USERS, "first": first, "last": last})
            probe.inserted.put((last, time.monotonic()))
    return last


def _wrong(online: _Online, last: int) -> int:
    """Return for how many users Redis has a value other than their last event's."""
    events = range(max(1, last - _USERS + 1), last + 1)
    found = online.events([event % _USERS for event in events])
    return sum(value != event for event, value in zip(events, found, strict=True))


def _cpu(loop: psutil.Process) -> float:
    """Return the CPU seconds of the loop and of its running child processes, such as dbt."""
    found = 0.0
    for process in (loop, *loop.children(recursive=True)):
        times = process.cpu_times()
        found += times.user + times.system
    return found


@contextmanager
def _refreshing(settings: Settings, every: str) -> Iterator[psutil.Process]:
    """Run the loop, once its first round is done; its lines are shown."""
    runner = Path(sys.executable).with_name("runner")
    command = [str(runner), "refresh", _RECIPE, "--every", every]
    with subprocess.Popen(
        command, cwd=settings.root, env=dict(settings.env), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        print(process.stdout.readline(), end="")
        shown = threading.Thread(target=sys.stdout.writelines, args=[process.stdout])
        shown.start()
        try:
            yield psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            shown.join()


@contextmanager
def _project() -> Iterator[Settings]:
    """Give a project whose mart has a row per event, with servers of its own."""
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # root's servers run as nobody
        postgres = PostgresAddress("127.0.0.1", free_port(), "runner", "runner", "postgres")
        redis = RedisAddress.from_url(f"redis://127.0.0.1:{free_port()}/0")
        root = write_project(folder / "project")
        mart = root / "models/feature_mart/reading.sql"
        mart.write_text(mart.read_text().replace("{{ config(", f"{{{{ config({_INDEX}, "))
        try:
            postgres_server.start(postgres, folder / "postgres")
            redis_server.start(redis, folder / "redis")
            os.environ |= {
                "PGHOST": postgres.host,
                "PGPORT": str(postgres.port),
                "PGUSER": postgres.user,
                "PGPASSWORD": postgres.password,
                "PGDATABASE": postgres.database,
                "REDIS_URL": redis.url,
            }
            with psycopg.connect(**postgres.conninfo, autocommit=True) as connection:  # type: ignore[arg-type]
                connection.execute(_TABLE)
            yield load_settings("local", root)
        finally:
            redis_server.stop(folder / "redis")
            postgres_server.stop(folder / "postgres")


if __name__ == "__main__":
    main()

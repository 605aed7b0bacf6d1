"""Point-in-time retrieval: ours against stock Feast, on the same rows of the same server.

    python -m benchmarks.point_in_time                  100k and 1M spine rows, ours and stock
    python -m benchmarks.point_in_time --curve          ours from 100k to 10M spine rows, streamed
    python -m benchmarks.point_in_time --conditions     by index and by merge, in hard conditions

Every figure is taken in a process of its own: wall time and client CPU from asking for the
features to the Arrow table (or last batch), peak memory of that process, imports included. The
floor is the join alone (`explain analyze`, which sends nothing) plus the transfer of its stored
result. Results are compared value by value.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg

from benchmarks import point_in_time_data as data
from runner.servers import postgres_server
from runner.settings import PostgresAddress

# Unlimited: with a ttl stock's plan becomes a nested loop over the matches, quadratic in the spine
# (10k rows: 29.6 s, ours 0.5 s); 100k rows would take an hour.
TTL = timedelta(0)
# The tables are vacuumed and analyzed when they are made.
_OPTIONS = {**postgres_server.THROWAWAY_OPTIONS, "autovacuum": "off"}
CONDITIONS = {
    "as generated": "",
    "rows in random order": """
        create table bench.shuffled as select * from bench.user_activity order by random();
        drop table bench.user_activity;
        alter table bench.shuffled rename to user_activity;
        create unique index on bench.user_activity (user_id, event_timestamp, created_at);
    """,
    "half of the spine is one user": "update bench.spine set user_id = 1 where row_id % 2 = 0;",
    "ties: every row four times": """
        drop index bench.user_activity_user_id_event_timestamp_created_at_idx;
        create index on bench.user_activity (user_id, event_timestamp, created_at);
        insert into bench.user_activity
        select source.* from bench.user_activity as source, generate_series(1, 3);
    """,
    "never analyzed": "delete from pg_statistic where starelid = 'bench.user_activity'::regclass;",
}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["100k", "1m"], choices=data.SIZES)
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--conditions", action="store_true")
    parser.add_argument("--binaries", type=Path, help="folder of another PostgreSQL's programs")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        sys.stdout.write(json.dumps(_measure(**json.loads(arguments.measure))) + "\n")
        return
    with _server(arguments.binaries) as dsn:
        with psycopg.connect(dsn) as connection:
            print(f"PostgreSQL {connection.info.parameter_status('server_version')}")
        if arguments.curve:
            _curve(dsn)
        elif arguments.conditions:
            _conditions(dsn, arguments.binaries)
        else:
            for name in arguments.sizes:
                _compare(dsn, data.SIZES[name])


def _compare(dsn: str, size: data.Size) -> None:
    data.generate(dsn, size)
    print(f"\n{size.rows:,} spine rows, {size.feature_rows:,} feature rows, 2 views, 20 features")
    with tempfile.TemporaryDirectory() as folder:
        ours = _run(dsn, what="ours", keep=f"{folder}/ours.arrow")
        merge = _run(dsn, what="merge", keep=f"{folder}/merge.arrow")
        floor = _run(dsn, what="floor")
        stock = _run(dsn, what="stock", keep=f"{folder}/stock.arrow")
        same = {
            name: _run(
                dsn, what="equal", keep=f"{folder}/{name}.arrow", other=f"{folder}/stock.arrow"
            )
            for name in ("ours", "merge")
        }
    print("| | wall s | client CPU s | server CPU s | peak MiB | same values |")
    print("|---|---|---|---|---|---|")
    _row("stock Feast", stock, "")
    _row("ours, by index", ours, same["ours"]["equal"])
    _row("ours, by merge (no index)", merge, same["merge"]["equal"])
    parts = f"join {floor['join']:.2f} + transfer {floor['transfer']:.2f}"
    print(f"| floor: {parts} | {floor['wall']:.2f} | | | | |")
    print(
        f"\nours: {stock['wall'] / ours['wall']:.1f}× faster than stock, "
        f"{_work(stock) / _work(ours):.1f}× less CPU of client and server, "
        f"1/{stock['peak'] / ours['peak']:.1f} of the memory "
        f"(1/{_beyond(stock) / _beyond(ours):.1f} beyond the imports), "
        f"{ours['wall'] / floor['wall']:.2f}× the floor",
        flush=True,
    )


def _curve(dsn: str) -> None:
    print("| spine rows | wall s | rows/s | client CPU s | peak MiB |\n|---|---|---|---|---|")
    for name in ("100k", "1m", "3m", "10m"):
        size = data.Size(name, data.SIZES[name].rows, 50_000)
        data.generate(dsn, size)
        found = _run(dsn, what="stream")
        speed = found["rows"] / found["wall"]
        print(
            f"| {found['rows']:,} | {found['wall']:.1f} | {speed:,.0f} | {found['cpu']:.1f} "
            f"| {found['peak']:.0f} |",
            flush=True,
        )


def _conditions(dsn: str, binaries: Path | None) -> None:
    print("| condition | by index, wall s | by merge, wall s |\n|---|---|---|")
    for name, change in CONDITIONS.items():
        data.generate(dsn, data.SIZES["100k"])
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(change or "select 1")
        walls = [_run(dsn, what=what)["wall"] for what in ("ours", "merge")]
        print(f"| {name} | {walls[0]:.2f} | {walls[1]:.2f} |", flush=True)
    data.generate(dsn, data.SIZES["100k"])
    walls = []
    for what in ("ours", "merge"):
        _cool(dsn, binaries)
        walls.append(_run(dsn, what=what)["wall"])
    print(f"| cold cache | {walls[0]:.2f} | {walls[1]:.2f} |", flush=True)
    for name, seconds in (("ttl 1 hour", 3600), ("ttl 7 days", 7 * 86400)):
        walls = [_run(dsn, what=what, ttl=seconds)["wall"] for what in ("ours", "merge")]
        print(f"| {name} | {walls[0]:.2f} | {walls[1]:.2f} |", flush=True)


def _cool(dsn: str, binaries: Path | None) -> None:
    """Restart the server, and have the system forget the pages of its files."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("checkpoint")
        row = connection.execute("show data_directory").fetchone()
        info = connection.info
        address = PostgresAddress(info.host, info.port, info.user, info.password, info.dbname)
    assert row is not None
    folder = Path(row[0])
    postgres_server.stop(folder)
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    postgres_server.start(address, folder, binaries=binaries, options=_OPTIONS)


def _row(name: str, found: dict[str, Any], same: Any) -> None:
    print(
        f"| {name} | {found['wall']:.2f} | {found['cpu']:.2f} | {found['server_cpu']:.2f} "
        f"| {found['peak']:.0f} | {same} |"
    )


def _work(found: dict[str, Any]) -> float:
    return float(found["cpu"] + found["server_cpu"])


def _beyond(found: dict[str, Any]) -> float:
    return float(found["peak"] - found["imports"])


def _run(dsn: str, **request: Any) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.point_in_time"]
    command += ["--measure", json.dumps({"dsn": dsn, **request})]
    before = _server_cpu(dsn)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "server_cpu": _server_cpu(dsn) - before}


def _server_cpu(dsn: str) -> float:
    """Return the CPU seconds of all sessions that have ended, as their parent counts them."""
    with psycopg.connect(dsn) as connection:
        others = "select count(*) from pg_stat_activity where backend_type like '%client%'"
        while connection.execute(others).fetchone() != (1,):
            time.sleep(0.05)
            connection.rollback()
        folder = connection.execute("show data_directory").fetchone()
    assert folder is not None
    postmaster = int((Path(folder[0]) / "postmaster.pid").read_text().splitlines()[0])
    times = psutil.Process(postmaster).cpu_times()
    return float(times.children_user + times.children_system)


def _measure(
    dsn: str, what: str, keep: str = "", other: str = "", ttl: float = TTL.total_seconds()
) -> dict[str, Any]:
    if what == "equal":
        return {"equal": _equal(keep, other)}
    kind = "stock" if what == "stock" else "ours"
    store = data.store(dsn, kind, indexed=what != "merge", ttl=timedelta(seconds=ttl))
    if what == "floor":
        return _floor(dsn, _job(store).to_sql())
    imports = _peak()
    started, cpu = time.perf_counter(), time.process_time()
    job = _job(store)
    if what == "stream":
        with job.to_arrow_batches() as reader:
            rows = sum(batch.num_rows for batch in reader)
    else:
        table = job.to_arrow()
        rows = table.num_rows
    found = {
        "wall": time.perf_counter() - started,
        "cpu": time.process_time() - cpu,
        "peak": _peak(),
        "imports": imports,
        "rows": rows,
    }
    if keep:
        import pyarrow.feather

        pyarrow.feather.write_feather(table, keep, compression="uncompressed")
    return found


def _job(store: Any) -> Any:
    return store.get_historical_features(
        entity_df=data.SPINE,
        features=data.feature_references(),
        full_feature_names=True,
        filter_by_created_timestamp=True,  # stock's default would look into the future
    )


def _floor(dsn: str, query: str) -> dict[str, Any]:
    from adbc_driver_postgresql import dbapi

    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("set jit = off")
        connection.execute("set work_mem = '64MB'")
        plan = connection.execute(f"explain (analyze, timing off) {query}").fetchall()
        join = float(re.findall(r"Execution Time: ([\d.]+) ms", "\n".join(p[0] for p in plan))[0])
        connection.execute(f"create table bench.result as {query}")
    with dbapi.connect(dsn) as connection, connection.cursor() as cursor:
        started = time.perf_counter()
        cursor.execute("select * from bench.result")
        cursor.fetch_arrow_table()
        transfer = time.perf_counter() - started
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("drop table bench.result")
    return {"join": join / 1000, "transfer": transfer, "wall": join / 1000 + transfer}


def _equal(left: str, right: str) -> bool:
    import pyarrow.feather

    tables = []
    for path in (left, right):
        table = pyarrow.feather.read_table(path).sort_by("row_id")
        tables.append(table)
    ours, stock = tables
    # Stock's timestamps have lost their zone; its columns stand in another order.
    return bool(stock.select(ours.column_names).cast(ours.schema).equals(ours))


def _peak() -> float:
    """Return the peak resident memory of this process so far, MiB."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


@contextmanager
def _server(binaries: Path | None) -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="bench-postgres-"))
    folder.chmod(0o711)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    address = PostgresAddress("127.0.0.1", port, "bench", "bench", "postgres")
    postgres_server.start(
        address,
        folder / "data",
        binaries=binaries,
        options=_OPTIONS,
    )
    try:
        yield psycopg.conninfo.make_conninfo(**address.conninfo)
    finally:
        postgres_server.stop(folder / "data")
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

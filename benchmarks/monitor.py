"""What `runner monitor` reads of the collected serving log: minutes and memory by logged rows.

    python -m benchmarks.monitor                       100k and 1M rows of 23 features, 30 days
    python -m benchmarks.monitor --rows 10_000_000

Every size is measured in a process of its own, from the first query to the last figure: drift of
every column by day, ages, and live quality with a label for every row and one slice. The rest of
the command does not depend on the log: it compares 1,000 drawn rows with the point-in-time join.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psutil
import psycopg
import pyarrow as pa

from contract.bundle import Label
from contract.bundle_reader import read_bundle
from runner.collecting.served_rows import PREDICTIONS
from runner.monitoring.bins import bins_of
from runner.monitoring.column_figures import column_figures
from runner.monitoring.drift import Sample
from runner.monitoring.live_quality import live_quality
from runner.monitoring.monitored import PREDICTION, Monitored
from runner.monitoring.served_log import ServedLog, Window
from runner.project.manifest import Manifest, OutcomeOf
from runner.servers import postgres_server
from runner.settings import PostgresAddress, Settings
from runner.warehouse.open_collected import open_collected, open_served_log
from tests.answered_rows import MODEL, RUN, answered
from tests.conftest import free_port
from tests.modelling import SPINE, make_recipe
from tests.serving_bundles import write_linear_bundle

_FEATURES, _DAYS, _USERS = 23, 30, 50_000
_START = datetime(2026, 3, 1, tzinfo=UTC)
_WINDOW = Window(MODEL, "1", RUN, _START, _START + timedelta(days=_DAYS + 30))
_VALUES = {
    "number": "random() * 100",
    "count": "floor(-ln(1 - random()) * 4)::bigint",
    "text": "'c' || floor(random() * 30)::int",
}
"""Kind of feature → SQL of its values; the features take turns."""
_KINDS = [list(_VALUES)[i % len(_VALUES)] for i in range(_FEATURES)]
_DRAWN = 100_000
_DRAW = """
create table drawn as
select n, random() as share, floor(random() * {users})::bigint as user_id,
    jsonb_build_object({features}) as features
from generate_series(0, {drawn} - 1) as n
"""
"""Rows that the log repeats: to draw ten million takes longer than to monitor them."""
_FILL = """
insert into raw_data.predictions (
    served_at, server_id, server_row, request_id, request_row, model_name, model_version, run_id,
    bundle_sha256, label, entity_keys, features, statuses, event_times, definitions, prediction,
    probabilities, log_share, answered_as
)
select
    served_at, 's2', n, 'r' || n, 0, '{model}', '1', '{run}', 'b1', 'y',
    jsonb_build_object('user_id', user_id), features, '{{}}',
    jsonb_build_object('activity', served_at - interval '2 hours'), '{{}}',
    (share >= 0.5)::int::text, jsonb_build_object('0', 1 - share, '1', share), 1, 'answer'
from (
    select n, timestamptz '{day}' + n * interval '1 day' / {rows} as served_at
    from generate_series(0, {rows} - 1) as n
) as asked
join (select n as number, share, user_id, features from drawn) as drawn
    on number = (n + {shift}) % {drawn}
"""
_OUTCOME = """
create schema outcome;
create table outcome.outcome_y as
select
    (entity_keys ->> 'user_id')::bigint as user_id, served_at as event_timestamp, model_name,
    model_version, prediction, probabilities, server_id, server_row, request_id, request_row,
    (random() < (probabilities ->> '1')::float)::int::bigint as y
from raw_data.predictions
"""


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", type=int, default=[100_000, 1_000_000])
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        sys.stdout.write(json.dumps(_measure(json.loads(asked.measure))) + "\n")
        return
    print(
        "| logged rows | drift s | ages s | live quality s | all s | rows/s | server CPU s "
        "| client CPU s | MiB |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for rows in asked.rows:
        with _log(rows) as (env, server):
            command = [sys.executable, "-m", "benchmarks.monitor", "--measure", json.dumps(env)]
            before = _of_ended_sessions(server)
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            served = _of_ended_sessions(server) - before
        found = json.loads(done.stdout)
        wall = found["drift"] + found["ages"] + found["quality"]
        print(
            f"| {rows:,} | {found['drift']:.1f} | {found['ages']:.1f} | {found['quality']:.1f} "
            f"| {wall:.1f} | {rows / wall:,.0f} | {served:.1f} | {found['cpu']:.1f} "
            f"| {found['peak']:.0f} |",
            flush=True,
        )


@contextmanager
def _log(rows: int) -> Iterator[tuple[dict[str, str], psutil.Process]]:
    """Fill the log and the outcome model of a new server; yield its variables and process."""
    folder = Path(tempfile.mkdtemp(prefix="bench-monitor-"))
    folder.chmod(0o711)
    address = PostgresAddress("127.0.0.1", free_port(), "bench", "bench", "postgres")
    options = {**postgres_server.THROWAWAY_OPTIONS, "autovacuum": "off"}
    server = postgres_server.start(address, folder / "data", options=options)
    env = {f"PG{name.upper()}": str(value) for name, value in address.conninfo.items()}
    env["PGDATABASE"] = address.database
    try:
        _fill(Settings("local", folder, env), rows)
        yield env, server
    finally:
        postgres_server.stop(folder / "data")
        shutil.rmtree(folder)


def _fill(settings: Settings, rows: int) -> None:
    days = [_START + timedelta(days=day) for day in range(_DAYS)]
    nothing = pa.table({"x": [0]})
    with open_collected(settings, PREDICTIONS) as store:  # it makes the partitions
        store.append([row for day in days for row in answered(nothing, day, model_name="other")])
    features = ", ".join(f"'activity__f{i}', {_VALUES[kind]}" for i, kind in enumerate(_KINDS))
    with psycopg.connect(**settings.postgres.conninfo, autocommit=True) as sql:  # type: ignore[arg-type]
        session = psutil.Process(sql.info.backend_pid)
        sql.execute(_DRAW.format(users=_USERS, features=features, drawn=_DRAWN).encode())
        per_day = rows // _DAYS
        for i, day in enumerate(days):
            values = {"model": MODEL, "run": RUN, "drawn": _DRAWN, "shift": i * per_day}
            sql.execute(_FILL.format(**values, day=day.isoformat(), rows=per_day).encode())
        for statement in _OUTCOME.split(";\n"):
            sql.execute(statement.encode())
        sql.execute("vacuum analyze")
    session.wait()  # its CPU seconds are not the monitor's


def _measure(env: dict[str, str]) -> dict[str, float]:
    columns, found, began = list(_columns()), {}, time.process_time()
    with (
        tempfile.TemporaryDirectory() as name,
        open_served_log(Settings("local", Path(name), env), PREDICTIONS) as reader,
    ):
        folder, log, start = Path(name), ServedLog(reader, _WINDOW), time.monotonic()
        column_figures(log, columns)
        found["drift"], start = time.monotonic() - start, time.monotonic()
        log.ages(["activity"])
        found["ages"] = time.monotonic() - start
        recipe = make_recipe(folder / "m.yaml", more="slices: ['activity:f2']\n")
        bundle = read_bundle(folder / "bundle", write_linear_bundle(folder / "bundle"))
        sliced = replace(bundle.features[0], name="activity__f2")
        bundle = replace(bundle, features=(sliced,), label=Label("y", classes=(0, 1)))
        start = time.monotonic()
        quality = live_quality(
            reader, _WINDOW, _manifest(env, folder), recipe, bundle, [("1", False)]
        )
        found["quality"] = time.monotonic() - start
    if quality.reason:
        raise SystemExit(quality.reason)
    return found | {"cpu": time.process_time() - began, "peak": _peak()}


def _columns() -> Iterator[Monitored]:
    """Yield the log's columns as of a model that was trained on 20,000 rows like these."""
    random = np.random.default_rng(0)
    made = {
        "number": lambda: random.random(20_000) * 100,
        "count": lambda: np.floor(random.exponential(4, 20_000)),
        "text": lambda: np.char.add("c", random.integers(30, size=20_000).astype(str)),
    }
    places = [
        (f"f{i}", ("features", f"activity__f{i}"), made[kind]()) for i, kind in enumerate(_KINDS)
    ]
    places.append((PREDICTION, ("probabilities", "1"), random.random(20_000)))
    for name, place, values in places:
        column = pa.chunked_array([pa.array(values)])
        bins = bins_of(column, "string" if values.dtype.kind == "U" else "float64")
        counts = np.bincount(bins.numbers(column), minlength=len(bins.labels)).astype(np.float64)
        sample, is_feature = Sample(counts, 20_000.0), name != PREDICTION
        yield Monitored(name, name, place, ("user_id",), bins, sample, is_feature=is_feature)


def _manifest(env: dict[str, str], folder: Path) -> Manifest:
    outcome = replace(
        SPINE,
        name="outcome_y",
        database=env["PGDATABASE"],
        schema="outcome",
        alias="outcome_y",
        labels={"y": timedelta(days=7)},
        outcome=OutcomeOf("spine_y", "y"),
    )
    return Manifest(folder, "shop", {}, {"outcome_y": outcome}, "")


def _of_ended_sessions(server: psutil.Process) -> float:
    """Return the CPU seconds of the server's processes that have ended, such as sessions."""
    times = server.cpu_times()
    return float(times.children_user + times.children_system)


def _peak() -> float:
    """Return the peak resident memory of this process so far, MiB."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


if __name__ == "__main__":
    main()

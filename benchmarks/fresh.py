"""Freshness: from an acknowledged event to a prediction that uses it, while `runner refresh` runs.

    python -m benchmarks.fresh                        1,000 events/s for a minute, rounds every 5 s
    python -m benchmarks.fresh --seconds 20 --every 2s

Page views go to `POST /events/page_views` of the shop's project, twenty requests a second, of
10,000 users in turn. A probe asks `/predict` for the last event of each request until the answer
counts it. Ten times a second a value is pushed, and `/predict` is asked until the answer has it.
At the end the raw table has each event once, and the mart, rebuilt from it, has the same rows.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg

from benchmarks.fresh_load import Measured, run_load
from benchmarks.fresh_project import RECIPE, SessionProject, session_project
from runner.settings import Settings
from tests.serving_process import serving

_ONCE = "select count(*), count(distinct view_id) from raw_data.page_views"
_ROWS = (
    "select count(*), md5(string_agg(row::text, ',' order by user_id, event_timestamp)) "
    "from feature_mart.user_session as row"
)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--per-second", type=int, default=1_000)
    parser.add_argument("--every", default="5s")
    asked = parser.parse_args()
    with session_project() as project:
        settings = project.settings
        with _refreshing(settings, asked.every) as loop:
            environment = {"SERVING_LOG_SHARE": "0"}
            with serving(project.bundle, settings.redis.url, **environment) as server:
                processes = _processes(project, loop, psutil.Process(server.process.pid))
                began, before = time.monotonic(), {n: _cpu(p) for n, p in processes.items()}
                done = run_load(server, asked.per_second, asked.seconds)
                seconds = time.monotonic() - began
                used = {n: (_cpu(p) - before[n]) / seconds for n, p in processes.items()}
        _show(done, asked.every)
        print("share of a processor: " + ", ".join(f"{n} {s:.0%}" for n, s in used.items()))
        sys.exit(_check(settings, done.sent))


def _show(done: Measured, every: str) -> None:
    print(f"{done.sent:,} events, rounds every {every}, {done.retried} requests sent again")
    for name, times in (
        ("acknowledged", done.acknowledged),
        ("event to prediction", done.refreshed),
        ("pushed to prediction", done.pushed),
    ):
        print(
            f"{name}: p50 {statistics.median(times):.3f} s, p95 {_percentile(times):.3f} s, "
            f"largest {max(times):.3f} s ({len(times):,} measured)"
        )


def _percentile(times: Sequence[float]) -> float:
    return sorted(times)[int(len(times) * 0.95)]


def _check(settings: Settings, sent: int) -> int:
    """Compare with what was sent and with a rebuild; return the exit status."""
    rows, once = _query(settings, _ONCE)
    kept = _query(settings, _ROWS)
    _run(settings, "dbt", "run", "--full-refresh", "--select", "user_session")
    rebuilt = _query(settings, _ROWS)
    print(
        f"{sent - once:,} of {sent:,} events lost, {rows - once:,} double; {kept[0]:,} rows of the "
        f"mart, {'equal to' if kept == rebuilt else 'DIFFERENT FROM'} those of a rebuild"
    )
    return int((rows, once) != (sent, sent) or kept != rebuilt)


def _query(settings: Settings, sql: str) -> tuple[int, int | str]:
    with psycopg.connect(**settings.postgres.conninfo) as connection:  # type: ignore[arg-type]
        found = connection.execute(sql.encode()).fetchone()
        assert found is not None
        return found[0], found[1]


def _processes(
    project: SessionProject, loop: psutil.Process, server: psutil.Process
) -> dict[str, psutil.Process]:
    here = psutil.Process(os.getpid())
    return {"refresh and dbt": loop, "API": server, **project.servers, "load and probes": here}


def _cpu(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and its child processes, such as dbt; not of ours."""
    running = [] if process.pid == os.getpid() else process.children(recursive=True)
    times = process.cpu_times()
    found: float = times.user + times.system
    if process.pid != os.getpid():
        found += times.children_user + times.children_system
    for child in running:
        times = child.cpu_times()
        found += times.user + times.system
    return found


@contextmanager
def _refreshing(settings: Settings, every: str) -> Iterator[psutil.Process]:
    """Run the loop, once its first round is done; its lines are shown."""
    with subprocess.Popen(
        [_program("runner"), "refresh", RECIPE, "--every", every],
        cwd=settings.root,
        env=dict(settings.env),
        stdout=subprocess.PIPE,
        text=True,
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


def _run(settings: Settings, *command: str) -> None:
    subprocess.run(
        [_program(command[0]), *command[1:]],
        cwd=settings.root,
        env=dict(settings.env),
        stdout=subprocess.DEVNULL,
        check=True,
    )


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


if __name__ == "__main__":
    main()

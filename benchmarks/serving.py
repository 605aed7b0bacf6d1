"""Serving: ours against the usual ways, on one machine in one run.

    python -m benchmarks.serving [--seconds 4] [--only ours,e]

20 numeric features in two views, a RandomForest of 100 trees, 1,000 users in one Redis-protocol
server. "CPU ms" is the server's CPU time per request, which other work on the machine disturbs
least. Every server runs alone, with one worker; the load comes from another process. Prints the
tables of docs/benchmarks.md: what the serving log adds, and what a large request costs beside the
least that it can cost.
"""

from __future__ import annotations

import argparse
import os
import platform
import socket
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from benchmarks.serving_data import COLUMNS, USERS, VIEWS, prepare
from benchmarks.serving_floor import Floor, redis_cpu_seconds
from benchmarks.serving_log import compare_log
from benchmarks.serving_servers import (
    LOG_OFF,
    Contender,
    bodies,
    cpu_seconds,
    load,
    redis_server,
    running,
    users,
)

CONNECTIONS = (1, 16, 100)
ROWS = (1, 100)
_FLOOR_TURNS = 10


def contenders(folder: Path) -> dict[str, Contender]:
    """Return every server by its letter; `{port}` is filled in when it starts."""
    python = [sys.executable, "-m"]
    rival = [*python, "uvicorn", "--factory", "--no-access-log", "--log-level", "error", "--port"]
    feast = [str(Path(sys.executable).parent / "feast"), "-c", str(folder / "feast"), "serve"]
    mlflow = [*python, "mlflow", "models", "serve", "-m", str(folder / "mlflow")]
    app = "benchmarks.serving_rivals"
    return {
        "ours": Contender("ours", [*python, "serving"], "/ready", "/predict"),
        "a": Contender(
            "(a) FastAPI + Feast SDK + scikit-learn",
            [*rival, "{port}", f"{app}:feast_sklearn"],
            "/docs",
            "/predict",
        ),
        "b": Contender(
            "(b) FastAPI + Feast SDK + ONNX",
            [*rival, "{port}", f"{app}:feast_onnx"],
            "/docs",
            "/predict",
        ),
        "c": Contender(
            "(c) feast serve (features only)",
            [*feast, "--port", "{port}", "--max-requests", "0", "--no-access-log"],
            "/health",
            "/get-online-features",
            "feast",
        ),
        "d": Contender(
            "(d) mlflow models serve (model only)",
            [*mlflow, "--env-manager", "local", "--workers", "1", "--port", "{port}"],
            "/ping",
            "/invocations",
            "mlflow",
        ),
        "e": Contender(
            "(e) FastAPI, a constant",
            [*rival, "{port}", f"{app}:constant"],
            "/constant",
            "/constant",
            "none",
        ),
    }


def ping_p50_ms(port: int, count: int = 5_000) -> float:
    """Return the median round trip of a Redis PING on a plain socket."""
    latencies = []
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            started = time.perf_counter()
            sock.sendall(b"PING\r\n")
            sock.recv(64)
            latencies.append(time.perf_counter() - started)
    return sorted(latencies)[count // 2] * 1000


def measure(contender: Contender, env: dict[str, str], seconds: float) -> None:
    """Print one contender's rows."""
    with running(contender, env | contender.env) as (url, startup, process):
        for rows in ROWS:
            if contender.body == "none" and rows > 1:
                continue
            content = bodies(contender.body, rows)
            load(url + contender.path, content, 4, 1.0)  # warm
            for connections in CONNECTIONS:
                before = cpu_seconds(process)
                seen = load(url + contender.path, content, connections, seconds)
                cpu = (cpu_seconds(process) - before) / seen["requests"] * 1000
                print(
                    f"| {contender.name} | {rows} | {connections} "
                    f"| {seen['requests'] / seen['seconds']:,.0f} | {seen['p50_ms']:.2f} "
                    f"| {seen['p99_ms']:.2f} | {cpu:.2f} "
                    f"| {seen['errors']:.0f} |",
                    flush=True,
                )
        family = [process, *process.children(recursive=True)]
        memory = sum(member.memory_info().rss for member in family) / 2**20
        print(
            f"<!-- {contender.name}: ready in {startup:.2f} s, {memory:.0f} MB after the load -->"
        )


def beside_floor(contender: Contender, folder: Path, env: dict[str, str], port: int) -> str:
    """Return a line about the CPU time of a large request and the least that it can take.

    They take turns: what else the machine does meets both.
    """
    rows = ROWS[-1]
    asked = [users(rows, start) for start in range(0, USERS, 10)]
    turns = []
    with (
        running(contender, env) as (url, _, process),
        Floor(folder / "bundle", port, asked) as floor,
    ):
        content = bodies(contender.body, rows)
        load(url + contender.path, content, 1, 1.0)  # warm
        for _ in range(_FLOOR_TURNS):
            before = cpu_seconds(process) + redis_cpu_seconds(port)
            seen = load(url + contender.path, content, 1, 1.0)
            spent = cpu_seconds(process) + redis_cpu_seconds(port) - before
            turns.append((spent / seen["requests"] * 1000, *floor.milliseconds()))
    cpu_ms, redis_ms, model_ms = map(statistics.median, zip(*turns, strict=True))
    times = statistics.median(spent / (redis + model) for spent, redis, model in turns)
    return (
        f"{rows} rows, 1 connection: {cpu_ms:.2f} ms of CPU of server and Redis, "
        f"{times:.2f} times that of the same HMGETs ({redis_ms:.2f} ms) and of the model alone "
        f"({model_ms:.2f} ms); medians of {_FLOOR_TURNS} turns"
    )


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="per cell of the table")
    parser.add_argument("--only", default="ours,a,b,c,d,e", help="letters of the contenders")
    args = parser.parse_args()
    packages = ("fastapi", "uvicorn", "feast", "mlflow", "scikit-learn", "onnxruntime")
    print(
        f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in packages)
        + f"; {len(VIEWS)} views, {len(COLUMNS)} features"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with redis_server(folder) as port:
            prepare(folder, port)
            print(f"Redis PING p50: {ping_p50_ms(port):.3f} ms\n")
            print(
                "| server | rows | connections | requests/s | p50 ms | p99 ms | CPU ms | errors |"
            )
            print("|---|--:|--:|--:|--:|--:|--:|--:|")
            env = {
                "BENCH_FOLDER": name,
                "SERVING_MODEL": str(folder / "bundle"),
                "REDIS_URL": f"redis://127.0.0.1:{port}/0",
                "FEAST_USAGE": "False",
                "MLFLOW_DISABLE_TELEMETRY": "true",
                # `mlflow models serve` looks for uvicorn there
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            }
            known = contenders(folder)
            for letter in args.only.split(","):
                measure(known[letter], env, args.seconds)
            if "ours" in args.only:
                compare_log(env)
                for which, log in (("with", {}), ("without", LOG_OFF)):
                    line = beside_floor(known["ours"], folder, env | log, port)
                    print(f"\n{which} the log, {line}", flush=True)


if __name__ == "__main__":
    main()

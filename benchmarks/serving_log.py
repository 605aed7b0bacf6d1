"""What the serving log adds to a request's CPU time, and to its latency.

    python -m benchmarks.serving_log [--turns 12]

Three of our servers run at the same time and are asked in turn: one with the log, and two without
it. The second of those is the control: how much it differs from the first is the noise of the
machine. Prints the table of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles

from benchmarks.serving_data import prepare
from benchmarks.serving_servers import (
    LOG_OFF,
    Contender,
    bodies,
    cpu_seconds,
    load,
    redis_server,
    running,
)

_CELLS = ((1, 1), (1, 16), (1, 100), (100, 1), (100, 16))
"""Rows of a request, and connections."""
_SECONDS = 0.8
_SERVERS = {"off": LOG_OFF, "on": {}, "control": LOG_OFF}

Cost = tuple[float, float]
"""CPU ms per request, and p99 ms."""


def compare_log(env: dict[str, str], turns: int = 12) -> None:
    """Print the table."""
    print(
        "\n| rows | connections | off: CPU ms | on | log adds | half of the turns | control "
        "| half of the turns | off: p99 ms | on |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    )
    with ExitStack() as stack:
        servers = {}
        for name, own in _SERVERS.items():
            server = Contender(name, [sys.executable, "-m", "serving"], "/ready", "/predict")
            url, _, process = stack.enter_context(running(server, env | own))
            servers[name] = url + server.path, process
            load(servers[name][0], bodies(server.body, 1), 4, 1.0)  # warm
        for rows, connections in _CELLS:
            content = bodies(server.body, rows)
            costs: dict[str, list[Cost]] = {name: [] for name in servers}
            for turn in range(turns):
                for name in list(servers)[:: -1 if turn % 2 else 1]:
                    url, process = servers[name]
                    before = cpu_seconds(process)
                    seen = load(url, content, connections, _SECONDS)
                    cpu_ms = (cpu_seconds(process) - before) / seen["requests"] * 1000
                    costs[name].append((cpu_ms, seen["p99_ms"]))
            print(f"| {rows} | {connections} {_cells(costs)}", flush=True)


def _cells(costs: Mapping[str, list[Cost]]) -> str:
    columns = {name: zip(*own, strict=True) for name, own in costs.items()}
    off, on = (list(map(median, columns[name])) for name in ("off", "on"))
    cells = [f"{off[0]:.3f}", f"{on[0]:.3f}"]
    for name in ("on", "control"):
        pairs = zip(costs[name], costs["off"], strict=True)
        more = [(own[0] / without[0] - 1) * 100 for own, without in pairs]
        low, _, high = quantiles(more, n=4)
        cells += [f"{median(more):+.0f} %", f"{low:+.0f} to {high:+.0f} %"]
    return "| " + " | ".join([*cells, f"{off[1]:.1f}", f"{on[1]:.1f}"]) + " |"


def main() -> None:
    """Run it alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=12)
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as port:
        prepare(Path(name), port)
        env = {
            "SERVING_MODEL": str(Path(name) / "bundle"),
            "REDIS_URL": f"redis://127.0.0.1:{port}/0",
        }
        compare_log(env, parser.parse_args().turns)


if __name__ == "__main__":
    main()

"""Servers under load: what `benchmarks.serving` and `benchmarks.serving_log` measure them with."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from benchmarks.serving_data import COLUMNS, USERS

LOG_OFF = {"SERVING_LOG_SHARE": "0"}


@dataclass(frozen=True)
class Contender:
    """A server, where it says it is ready, and where it is asked what."""

    name: str
    command: list[str]
    ready: str
    path: str
    body: str = "rows"
    env: dict[str, str] = field(default_factory=dict)


def bodies(kind: str, rows: int) -> bytes:
    """Return requests for `rows` different users each, one a line; none for a GET."""
    if kind == "none":
        return b""
    starts = range(0, USERS, 10)
    return b"\n".join(body(kind, users(rows, start)) for start in starts)


def users(rows: int, start: int) -> list[int]:
    """Return as many different users."""
    return [(start + i * 37) % USERS for i in range(rows)]


def body(kind: str, asked: list[int]) -> bytes:
    """Return a request for these users."""
    if kind == "feast":
        content: dict[str, Any] = {
            "feature_service": "bench",
            "entities": {"user_id": asked},
            "full_feature_names": True,
        }
    elif kind == "mlflow":
        values = [[(user + i) % 7 / 7 for i in range(len(COLUMNS))] for user in asked]
        content = {"dataframe_split": {"columns": COLUMNS, "data": values}}
    else:
        content = {"entity_rows": [{"user_id": user} for user in asked]}
    return json.dumps(content).encode()


@contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """Run a throw-away Redis-protocol server; the value is its port."""
    from runner.servers.redis_server import embedded_binary

    port = free_port()
    command = [str(embedded_binary()), "--port", str(port), "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            await_port(port)
            yield port
        finally:
            process.terminate()


@contextmanager
def running(
    contender: Contender, env: dict[str, str]
) -> Iterator[tuple[str, float, psutil.Process]]:
    """Start one server; the value is its URL, seconds from start to ready, and its process."""
    port = free_port()
    command = [part.format(port=port) for part in contender.command]
    url = f"http://127.0.0.1:{port}"
    started = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **env, "SERVING_PORT": str(port)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            await_ready(url + contender.ready, process, log)
            yield url, time.perf_counter() - started, psutil.Process(process.pid)
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server with all its workers."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, kind)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)


def await_ready(url: str, process: subprocess.Popen[bytes], log: Any) -> None:
    """Return when `url` answers."""
    while process.poll() is None:
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.01)
    log.seek(0)
    raise SystemExit(f"{process.args} ended:\n{log.read().decode()}")


def await_port(port: int) -> None:
    """Return when somebody listens."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.01)
        else:
            return


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def load(url: str, content: bytes, connections: int, seconds: float) -> dict[str, float]:
    """Return what the load generator saw, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.serving_load", url, str(connections), str(seconds)]
    done = subprocess.run(command, input=content, capture_output=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU time that a server and its workers have used."""
    family = [process, *process.children(recursive=True)]
    return sum(sum(member.cpu_times()[:2]) for member in family)

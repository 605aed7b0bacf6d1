"""The real server in a process of its own, for the tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

TIMEOUT = 20.0


class Serving:
    """`python -m serving` on a free port."""

    def __init__(self, **env: str) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SERVING_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "serving"],
            env={**inherited, "SERVING_PORT": "0", **env},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[dict[str, Any] | str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(json.loads(line) if line.startswith("{") else line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, message: str, start: int = 0) -> dict[str, Any]:
        """Return the first log line with this message, at or after line `start`."""

        def found() -> dict[str, Any] | None:
            lines = [line for line in self.lines[start:] if isinstance(line, dict)]
            return next((line for line in lines if line["message"] == message), None)

        with self._changed:
            self._changed.wait_for(lambda: found() or self._ended, TIMEOUT)
            line = found()
        assert line is not None, f"no {message!r} in {self.lines}"
        return line

    @property
    def url(self) -> str:
        """Where it listens."""
        return str(self.wait_for("listening")["url"])

    def client(self, **headers: str) -> httpx.Client:
        """Return an HTTP client of this server."""
        return httpx.Client(base_url=self.url, headers=headers, timeout=TIMEOUT)

    def wait_until_ready(self) -> None:
        """Return when `/ready` says yes."""
        with self.client() as client:
            while client.get("/ready").status_code != 200:
                assert self.process.poll() is None, self.lines

    def wait(self) -> int:
        """Return the exit status; every log line has been read then."""
        status = self.process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        return status

    def stop(self) -> None:
        """Ask it to stop and wait."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.wait()


def await_(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def serving(model: Path | str, redis_url: str, **env: str) -> Iterator[Serving]:
    """A ready server of `model`; it drains for no time unless told.

    It waits for Redis longer than in earnest: tests run on machines that are busy with others.
    """
    server = Serving(
        **{
            "SERVING_MODEL": str(model),
            "REDIS_URL": redis_url,
            "SERVING_DRAIN_SECONDS": "0",
            "SERVING_REDIS_TIMEOUT_SECONDS": "5",
            "SERVING_TIMEOUT_SECONDS": "10",
            **env,
        }
    )
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


def outcomes(client: httpx.Client, counter: str) -> dict[str, float]:
    """Return what /metrics counts by outcome."""
    prefix = f'{counter}_total{{outcome="'
    lines = client.get("/metrics").text.splitlines()
    found = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
    return {line.partition('"')[0]: float(line.rpartition(" ")[2]) for line in found}


def predict(client: httpx.Client, *entity_rows: Any, **fields: Any) -> httpx.Response:
    """Ask for predictions."""
    return client.post("/predict", json={"entity_rows": list(entity_rows), **fields})

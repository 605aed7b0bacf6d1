"""A step of `make demo`: start the API, send it one request, print request and response."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from runner.console import note, result
from runner.settings import Settings, load_settings

READY_WITHIN_SECONDS = 60


def main(recipe: str) -> None:
    """Ask for the newest row of the spine and one user nobody has seen."""
    settings = load_settings()
    rows = [_newest_keys(settings), {"user_id": 999_999_999, "category_id": 1}]
    body = {"entity_rows": rows}
    with _serving(settings, recipe) as address:
        note(f"POST {address}/predict")
        result(json.dumps(body))
        answer = _post(f"{address}/predict", body)
        result(json.dumps({"model": answer["model"]}))
        for prediction in answer["predictions"]:
            result(json.dumps(prediction))


def _newest_keys(settings: Settings) -> dict[str, int]:
    query = """
        select user_id, category_id from spine_data.spine_category_purchase
        order by event_timestamp desc, user_id, category_id limit 1
    """
    with psycopg.connect(**settings.postgres.conninfo) as connection:
        row = connection.execute(query).fetchone()
    if row is None:
        raise SystemExit("error: the spine is empty\nhint: run `make demo` from the start")
    return {"user_id": row[0], "category_id": row[1]}


@contextmanager
def _serving(settings: Settings, recipe: str) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "runner", "serve", recipe, "--port", str(port)]
    address = f"http://127.0.0.1:{port}"
    log = settings.root / "logs" / "serve.log"
    log.parent.mkdir(exist_ok=True)
    with (
        log.open("w") as output,
        subprocess.Popen(command, cwd=settings.root, stdout=output, stderr=output) as server,
    ):
        try:
            _wait_until_ready(server, address)
            yield address
        finally:
            server.terminate()


def _wait_until_ready(server: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit("error: the API ended at once\nhint: see logs/serve.log")
        try:
            with urllib.request.urlopen(f"{address}/ready", timeout=1):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)  # between two looks at a port; there is nothing to wait on
    raise SystemExit(f"error: {address}/ready says no\nhint: run `runner status`")


def _post(url: str, body: object) -> dict[str, Any]:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


if __name__ == "__main__":
    main(sys.argv[1])

"""Clients that keep asking while a test does its worst to the server."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.serving_process import Serving, predict


class Load:
    """Several clients, each with a connection of its own that is kept alive.

    Attributes
    ----------
    answers
        Every answer as (status, body).
    lost
        Requests that were sent and never answered.
    """

    def __init__(self, server: Serving, rows: list[dict[str, Any]], clients: int = 4) -> None:
        self._url = server.url
        self._rows = rows
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self.answers: list[tuple[int, Any]] = []
        self.lost: list[Exception] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def join(self) -> None:
        """Wait until the server takes no more connections."""
        for thread in self._threads:
            thread.join()

    def await_status(self, status: int, more: int = 20) -> None:
        """Return when `more` further answers had this status, whatever comes between."""

        def count() -> int:
            return sum(1 for answered, _ in self.answers if answered == status)

        with self._changed:
            goal = count() + more
            reached = self._changed.wait_for(lambda: count() >= goal or bool(self.lost), 20)
        assert not self.lost, self.lost
        assert reached, Counter(answered for answered, _ in self.answers)

    def await_answer(self, version: str) -> None:
        """Return when an answer came from this model version."""

        def seen() -> bool:
            return any(
                status == 200 and body["model"]["version"] == version
                for status, body in self.answers[-20:]
            )

        with self._changed:
            assert self._changed.wait_for(seen, 20)

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=20) as client:
            while not self._stop.is_set():
                try:
                    response = predict(client, *self._rows)
                except httpx.ConnectError:
                    return  # never sent
                except httpx.HTTPError as err:
                    self._note(lost=err)
                    return
                self._note(answer=(response.status_code, response.json()))

    def _note(
        self, *, answer: tuple[int, Any] | None = None, lost: Exception | None = None
    ) -> None:
        with self._changed:
            if answer is not None:
                self.answers.append(answer)
            if lost is not None:
                self.lost.append(lost)
            self._changed.notify_all()


@contextmanager
def load(server: Serving, *rows: dict[str, Any], clients: int = 4) -> Iterator[Load]:
    """Keep asking about `rows` while the context lasts."""
    running = Load(server, list(rows), clients)
    running.start()
    try:
        yield running
    finally:
        running.stop()

"""Bodies of events: their memory is counted, and the event loop parses no large one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, cast

import orjson
import pytest

from contract.event_format import EventColumn, EventEntry, EventTable
from contract.serving_settings import Limits
from serving.admission import Admission
from serving.event_log import EventLog
from serving.http import events
from serving.http.asgi import Message
from serving.http.uploads import Uploads
from serving.metrics import Metrics

SCOPE = {
    "headers": [(b"content-type", b"application/json")],
    "path_params": {"table": "t"},
}


class _Log:
    """Notes how much memory of bodies is counted when an entry is written."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.held: list[int] = []

    async def table(self, name: str) -> EventTable:
        return EventTable(name, "raw", "t", "id", (EventColumn("id", "string"),))

    async def append(self, _table: EventTable, _entry: EventEntry) -> None:
        self.held.append(self._metrics.buffered_bytes)


def answered(body: bytes) -> tuple[int, int]:
    """Send a request; return how much memory was counted while it was recorded, and afterwards."""
    limits, metrics = Limits(), Metrics()
    log = _Log(metrics)
    uploads = Uploads(Admission(limits, metrics), metrics, limits)
    endpoint = events.EventsEndpoint(cast("EventLog", log), uploads, metrics, limits)

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    async def send(_message: Message) -> None:
        return

    asyncio.run(endpoint(dict(SCOPE), receive, send))
    return log.held[0], metrics.buffered_bytes


def body_of(length: int) -> bytes:
    return orjson.dumps({"events": [{"id": "x"}]}) + b" " * length


def test_the_memory_of_a_body_is_counted_until_its_events_are_recorded() -> None:
    body = body_of(10_000)
    assert answered(body) == (len(body), 0)


@pytest.mark.parametrize(("length", "aside"), [(10_000, False), (100_000, True)])
def test_a_large_body_is_parsed_in_a_thread(
    monkeypatch: pytest.MonkeyPatch, length: int, aside: bool
) -> None:
    parsed_by = []
    read: Callable[..., list[Any]] = events.read_events

    def noted(body: bytes, limits: Limits) -> list[Any]:
        parsed_by.append(threading.current_thread())
        return read(body, limits)

    monkeypatch.setattr(events, "read_events", noted)
    answered(body_of(length))
    assert [thread is not threading.main_thread() for thread in parsed_by] == [aside]

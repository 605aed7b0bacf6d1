"""POST /events/{table} and POST /push/{view}: take rows, and report which were accepted."""

from __future__ import annotations

import asyncio
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple, TypeVar

from contract.event_format import EventEntry
from contract.event_values import BadEventError, EventReader, EventValue
from contract.serving_settings import Limits
from serving.event_log import EventLog
from serving.http.asgi import Receive, Scope, Send, json_answer, send_answer
from serving.http.uploads import Uploads
from serving.http_errors import EventsNotRecordedError, InvalidRequestError, TooManyRequestsError
from serving.metrics import Metrics
from serving.request_body import read_events, read_rows

_Given = TypeVar("_Given", bound=Sized)
_Made = TypeVar("_Made")
_INLINE = 64
"""More rows than this are checked in a thread, so that predictions do not wait for them."""
_INLINE_BYTES = 1 << 16
"""Longer bodies are parsed in a thread: 1 MiB takes some 25 ms."""
_IDEMPOTENCY_KEY = re.compile(rb"[\x21-\x7e]{1,200}")


_Read = Callable[[object, str | None], list[EventValue]]
"""Returns a row's values; takes the row and the id of one that has none itself."""


class _Checked(NamedTuple):
    rows: list[list[EventValue]]
    rejected: list[dict[str, object]]


class _RowsEndpoint(ABC):
    """Checks the rows of a request, records those that are right, and names the others."""

    def __init__(
        self, events: EventLog, uploads: Uploads, metrics: Metrics, limits: Limits
    ) -> None:
        self._events = events
        self._uploads = uploads
        self._metrics = metrics
        self._limits = limits
        self._taken = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._taken >= self._limits.concurrency:
            raise TooManyRequestsError("too many requests at once")
        self._taken += 1
        try:
            async with self._uploads.held(scope, receive) as body:
                content = await self._answer(scope, body)
        finally:
            self._taken -= 1
        await send_answer(send, json_answer(200, content))

    @abstractmethod
    async def _answer(self, scope: Scope, body: bytes) -> dict[str, object]:
        """Return the answer's content."""

    async def _check(self, read: _Read, rows: Sequence[object], scope: Scope) -> _Checked:
        return await _aside(partial(_check, read, _idempotency_key(scope)), rows)


class EventsEndpoint(_RowsEndpoint):
    """Answers `POST /events/{table}`."""

    async def _answer(self, scope: Scope, body: bytes) -> dict[str, object]:
        rows = await _aside(partial(read_events, limits=self._limits), body, _INLINE_BYTES)
        counts = self._metrics.events
        with _counting_lost(counts, len(rows)):
            table = await self._events.table(scope["path_params"]["table"])
        reader = EventReader(table)
        checked = await self._check(reader.read, rows, scope)
        counts["rejected"] += len(checked.rejected)
        if checked.rows:
            with _counting(counts, len(checked.rows)):
                entry = EventEntry(time.time(), reader.columns, checked.rows)
                await self._events.append(table, entry)
        return {"accepted": len(checked.rows), "rejected": checked.rejected}


class PushEndpoint(_RowsEndpoint):
    """Answers `POST /push/{view}`."""

    async def _answer(self, scope: Scope, body: bytes) -> dict[str, object]:
        rows = await _aside(partial(read_rows, limits=self._limits), body, _INLINE_BYTES)
        counts, older = self._metrics.pushed_rows, 0
        with _counting_lost(counts, len(rows)):
            table, pushed = await self._events.pushed(scope["path_params"]["view"])
        now = datetime.now(UTC)
        checked = await self._check(partial(pushed.read_at, now), rows, scope)
        counts["rejected"] += len(checked.rejected)
        if checked.rows:
            with _counting(counts, len(checked.rows)):
                entry = EventEntry(now.timestamp(), pushed.columns, checked.rows)
                writes = await _aside(pushed.writes, checked.rows)
                older = await self._events.push(table, entry, writes)
        counts["older"] += older
        return {"accepted": len(checked.rows), "older": older, "rejected": checked.rejected}


@contextmanager
def _counting(counts: dict[str, int], rows: int) -> Iterator[None]:
    """Count rows as accepted when the block ends, and as not recorded when it fails."""
    outcome = "not_recorded"
    try:
        yield
        outcome = "accepted"
    finally:
        counts[outcome] += rows


@contextmanager
def _counting_lost(counts: dict[str, int], rows: int) -> Iterator[None]:
    """Count rows as not recorded when Redis does not say which table takes them."""
    try:
        yield
    except EventsNotRecordedError:
        counts["not_recorded"] += rows
        raise


async def _aside(work: Callable[[_Given], _Made], given: _Given, inline: int = _INLINE) -> _Made:
    """Return `work(given)`, computed in a thread if `given` is longer than `inline`."""
    return work(given) if len(given) <= inline else await asyncio.to_thread(work, given)


def _check(read: _Read, key: str | None, rows: Sequence[object]) -> _Checked:
    checked = _Checked([], [])
    for position, row in enumerate(rows):
        try:
            given_id = None if key is None else f"{key}/{position}"
            checked.rows.append(read(row, given_id))
        except BadEventError as err:
            checked.rejected.append({"position": position, "reason": str(err)})
    return checked


def _idempotency_key(scope: Scope) -> str | None:
    """Return the request's `Idempotency-Key`, which names its rows by their positions."""
    for name, value in scope["headers"]:
        if name == b"idempotency-key":
            if not _IDEMPOTENCY_KEY.fullmatch(value):
                raise InvalidRequestError(
                    "Idempotency-Key must be 1 to 200 ASCII characters without spaces"
                )
            return bytes(value).decode()
    return None

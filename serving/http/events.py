"""POST /events/{table}: events in, and which of them the table takes."""

from __future__ import annotations

import asyncio
import re
import time
from typing import NamedTuple

from contract.event_format import EventEntry, EventTable
from contract.event_values import BadEventError, EventReader, EventValue
from contract.serving_settings import Limits
from serving.event_log import EventLog
from serving.http.asgi import Receive, Scope, Send, json_answer, send_answer
from serving.http.uploads import Uploads
from serving.http_errors import InvalidRequestError, TooManyRequestsError
from serving.metrics import Metrics
from serving.request_body import read_events

_INLINE = 64
"""More events are checked in a thread, so that predictions do not wait for them."""
_IDEMPOTENCY_KEY = re.compile(rb"[\x21-\x7e]{1,200}")


class _Checked(NamedTuple):
    rows: list[list[EventValue]]
    rejected: list[dict[str, object]]


class EventsEndpoint:
    """Answers `POST /events/{table}`."""

    def __init__(
        self, events: EventLog, uploads: Uploads, metrics: Metrics, limits: Limits
    ) -> None:
        self._events = events
        self._uploads = uploads
        self._metrics = metrics
        self._limits = limits
        self._taken = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the events of a request, record those that are right, and name the others."""
        if self._taken >= self._limits.concurrency:
            raise TooManyRequestsError("too many requests at once")
        self._taken += 1
        try:
            async with self._uploads.whole(scope, receive) as body:
                table = await self._events.table(scope["path_params"]["table"])
                checked = await self._check(table, body, _idempotency_key(scope))
                await self._record(table, checked)
        finally:
            self._taken -= 1
        content = {"accepted": len(checked.rows), "rejected": checked.rejected}
        await send_answer(send, json_answer(200, content))

    async def _check(self, table: EventTable, body: bytes, key: str | None) -> _Checked:
        events = read_events(body, self._limits)
        if len(events) <= _INLINE:
            return _check(table, events, key)
        return await asyncio.to_thread(_check, table, events, key)

    async def _record(self, table: EventTable, checked: _Checked) -> None:
        self._metrics.events["rejected"] += len(checked.rejected)
        if not checked.rows:
            return
        columns = [column.name for column in table.columns]
        outcome = "not_recorded"
        try:
            await self._events.append(table, EventEntry(time.time(), columns, checked.rows))
            outcome = "accepted"
        finally:
            self._metrics.events[outcome] += len(checked.rows)


def _check(table: EventTable, events: list[object], key: str | None) -> _Checked:
    checked = _Checked([], [])
    reader = EventReader(table)
    for position, event in enumerate(events):
        try:
            given_id = None if key is None else f"{key}/{position}"
            checked.rows.append(reader.read(event, given_id))
        except BadEventError as err:
            checked.rejected.append({"position": position, "reason": str(err)})
    return checked


def _idempotency_key(scope: Scope) -> str | None:
    """Return the request's `Idempotency-Key`, which names its events by their positions."""
    for name, value in scope["headers"]:
        if name == b"idempotency-key":
            if not _IDEMPOTENCY_KEY.fullmatch(value):
                raise InvalidRequestError(
                    "Idempotency-Key must be 1 to 200 ASCII characters without spaces"
                )
            return bytes(value).decode()
    return None

"""Events and pushed rows: appended to their table's Redis Stream before they are acknowledged.

Unlike the serving log's rows, they are never trimmed: Redis either confirms an entry, or the client
learns that it has not, and sends it again. The connection is opened when the first event comes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

import hiredis

from contract.event_format import (
    EVENTS_FIELD,
    EventEntry,
    EventTable,
    event_stream_key,
    event_tables_key,
    events_name,
    pushed_name,
)
from contract.online_write import KEPT, WRITE
from contract.push_rows import PushedRows, PushWrite
from contract.redis_address import RedisAddress
from serving.champion_watch import ChampionWatch
from serving.features.online_client import OnlineStoreClient, hash_slot
from serving.http_errors import EventsNotRecordedError, UnknownTableError
from serving.logs import log

_TIMEOUT = 1.0
_KNOWN_SECONDS = 5.0
_WRITE_SHA = hashlib.sha1(WRITE.encode(), usedforsecurity=False).hexdigest()
"""Redis's name for the script, which it knows once the full text was sent."""


class EventLog:
    """The streams of the served model's Feast project."""

    def __init__(self, address: RedisAddress, champion: ChampionWatch) -> None:
        self._client = OnlineStoreClient(address, _TIMEOUT, "event log")
        self._champion = champion
        self._tables: Sequence[EventTable] = ()
        self._known_until = 0.0
        self._refusal = ""

    async def stop(self) -> None:
        """Close the connection."""
        await self._client.stop()

    async def table(self, name: str) -> EventTable:
        """Return the table that takes events under this name.

        Raises
        ------
        UnknownTableError, EventsNotRecordedError
            If there is none, or Redis does not answer.
        """
        table = await self._find(name, events_name)
        if table is None:
            raise UnknownTableError(f"no dbt source takes events as {name[:64]!r}")
        return table

    async def pushed(self, view: str) -> tuple[EventTable, PushedRows]:
        """Return the table of rows that are pushed to a feature view, and what reads them.

        Raises
        ------
        UnknownTableError, EventsNotRecordedError
            As `table`.
        """
        table = await self._find(view, pushed_name)
        if table is None:
            raise UnknownTableError(f"no dbt source takes rows pushed to {view[:64]!r}")
        return table, PushedRows(table, self._project)

    async def append(self, table: EventTable, entry: EventEntry) -> None:
        """Write an entry; once this returns, Redis has confirmed it.

        Raises
        ------
        EventsNotRecordedError
            If it has not, though it may have the entry.
        """
        key, command = self._appending(table, entry)
        await self._ask([key], [command])

    async def push(self, table: EventTable, entry: EventEntry, writes: Sequence[PushWrite]) -> int:
        """Write an entry, and each of its rows into the online store unless a newer one is there.

        Returns how many of them were older than the stored row.

        Raises
        ------
        EventsNotRecordedError
            As `append`.
        """
        key, command = self._appending(table, entry)
        keys = [write.key for write in writes]
        scripts = [_pack(*write.command(b"EVALSHA", _WRITE_SHA)) for write in writes]
        _, *written = await self._ask([key, *keys], [command, *scripts], may_lack_script=True)
        lacking = [at for at, reply in enumerate(written) if _lacks_script(reply)]
        if lacking:
            whole = [_pack(*writes[at].command(b"EVAL", WRITE)) for at in lacking]
            again = await self._ask([keys[at] for at in lacking], whole)
            for at, reply in zip(lacking, again, strict=True):
                written[at] = reply
        return written.count(KEPT)

    def _appending(self, table: EventTable, entry: EventEntry) -> tuple[bytes, bytes]:
        key = event_stream_key(self._project, table.name)
        return key, _pack(b"XADD", key, b"*", EVENTS_FIELD, entry.dump())

    async def _find(
        self, name: str, name_of: Callable[[EventTable], str | None]
    ) -> EventTable | None:
        """Return the open table of that name; what was read is good for some seconds."""
        now = time.monotonic()
        found = [table for table in self._tables if name_of(table) == name]
        if now > self._known_until or not found:
            self._tables = await self._read_tables()
            self._known_until = now + _KNOWN_SECONDS
            found = [table for table in self._tables if name_of(table) == name]
        return next((table for table in found if table.is_open), None)

    @property
    def _project(self) -> str:
        return self._champion.current.bundle.feast_project

    async def _read_tables(self) -> Sequence[EventTable]:
        key = event_tables_key(self._project)
        (found,) = await self._ask([key], [_pack(b"HGETALL", key)])
        assert isinstance(found, list)  # noqa: S101 - HGETALL's reply
        tables = (EventTable.parse(content) for content in found[1::2])
        return [table for table in tables if table is not None]

    async def _ask(
        self, keys: Sequence[bytes], commands: Sequence[bytes], *, may_lack_script: bool = False
    ) -> list[object]:
        await self._client.start()
        replies = await self._client.ask_each([hash_slot(key) for key in keys], commands)
        for reply in replies:
            if isinstance(reply, Exception) and not (may_lack_script and _lacks_script(reply)):
                self._refuse(str(reply))
        self._refusal = ""
        return replies

    def _refuse(self, reason: str) -> NoReturn:
        if reason != self._refusal:  # once, not at every request
            self._refusal = reason
            log("error", "event log: events are refused", reason=reason)
        raise EventsNotRecordedError("Redis has not confirmed the events; send them again")


def _lacks_script(reply: object) -> bool:
    return isinstance(reply, Exception) and str(reply).startswith("NOSCRIPT")


def _pack(*parts: bytes | str) -> bytes:
    packed: bytes = hiredis.pack_command(parts)
    return packed

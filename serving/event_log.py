"""Events that clients send: appended to their table's Redis Stream before they are acknowledged.

Unlike the serving log's rows, they are never trimmed: Redis either confirms an entry, or the client
learns that it has not, and sends it again. The connection is opened when the first event comes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import hiredis

from contract.event_format import (
    EVENTS_FIELD,
    EventEntry,
    EventTable,
    event_stream_key,
    event_tables_key,
)
from contract.redis_address import RedisAddress
from serving.champion_watch import ChampionWatch
from serving.features.online_client import OnlineStoreClient, hash_slot
from serving.http_errors import EventsNotRecordedError, UnknownTableError
from serving.logs import log

_TIMEOUT = 1.0
_KNOWN_SECONDS = 5.0


class EventLog:
    """The streams of the served model's Feast project."""

    def __init__(self, address: RedisAddress, champion: ChampionWatch) -> None:
        self._client = OnlineStoreClient(address, _TIMEOUT, "event log")
        self._champion = champion
        self._tables: Mapping[str, EventTable] = {}
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
            If there is none, or Redis does not say.
        """
        if time.monotonic() > self._known_until or name not in self._tables:
            self._tables = await self._read_tables()
            self._known_until = time.monotonic() + _KNOWN_SECONDS
        table = self._tables.get(name)
        if table is None or not table.is_open:
            raise UnknownTableError(f"no dbt source takes events as {name[:64]!r}")
        return table

    async def append(self, table: EventTable, entry: EventEntry) -> None:
        """Write an entry; once this returns, Redis has confirmed it.

        Raises
        ------
        EventsNotRecordedError
            If it has not, though it may have the entry.
        """
        key = event_stream_key(self._project, table.name)
        await self._ask(key, (b"XADD", key, b"*", EVENTS_FIELD, entry.dump()))

    @property
    def _project(self) -> str:
        return self._champion.current.bundle.feast_project

    async def _read_tables(self) -> Mapping[str, EventTable]:
        key = event_tables_key(self._project)
        found = await self._ask(key, (b"HGETALL", key))
        assert isinstance(found, list)  # noqa: S101 - HGETALL's reply
        tables = (EventTable.parse(content) for content in found[1::2])
        return {table.name: table for table in tables if table is not None}

    async def _ask(self, key: bytes, command: tuple[bytes, ...]) -> object:
        await self._client.start()
        packed: bytes = hiredis.pack_command(command)
        (reply,) = await self._client.ask(hash_slot(key), [packed])
        if isinstance(reply, Exception):
            if str(reply) != self._refusal:  # once, not at every request
                self._refusal = str(reply)
                log("error", "event log: events are refused", reason=self._refusal)
            raise EventsNotRecordedError("Redis has not confirmed the events; send them again")
        self._refusal = ""
        return reply

"""Which tables take events, as the online store has it: the runner writes it, servers read it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from contract.event_format import EventTable, event_stream_key, event_tables_key
from runner.online.collected_pushes import forget_collected, note_collected
from runner.online.connection import OnlineConnection
from runner.online.full_redis import write_though_full
from runner.online.online_config import OnlineConfig


class EventTables:
    """The tables of one Feast project."""

    def __init__(self, connection: OnlineConnection, config: OnlineConfig) -> None:
        self._connection = connection
        self._client = connection.client
        self._config = config
        self._key = event_tables_key(config.project)

    def stored(self) -> list[EventTable]:
        """Return the tables whose events servers take, or may have taken."""
        found = self._client.hgetall(self._key)
        tables = (EventTable.parse(content) for _, content in sorted(found.items()))
        return [table for table in tables if table is not None]

    def add(self, tables: Sequence[EventTable]) -> None:
        """Let servers take events of these tables too; known tables stay unchanged."""
        for table in tables:
            stored = with_key_ttl(table, self._config)
            if self._client.hsetnx(self._key, table.name, stored.dump()):
                self.note_collected(table, None)

    def publish(self, tables: Sequence[EventTable]) -> None:
        """Let servers take events of these tables and no others."""
        names = {table.name for table in tables}
        for table in tables:
            stored = with_key_ttl(table, self._config)
            self._write(stored)
            self.note_collected(table, None)
        for table in self.stored():
            if table.name not in names and table.is_open:
                self._write(replace(table, is_open=False))
                if table.view is not None:
                    project = self._config.project
                    forget_collected(self._connection, project, table.view.name)

    def _write(self, table: EventTable) -> None:
        write_though_full(self._connection, "HSET", self._key, table.name, table.dump())

    def note_collected(self, table: EventTable, began: datetime | None) -> None:
        """Note when the last finished collection of pushed rows began; None: no collection yet."""
        if table.view is not None and table.is_open:
            note_collected(self._connection, self._config.project, table.view.name, began)

    def drop_closed(self, closed: Collection[str]) -> None:
        """Forget closed tables that take no events and have none waiting.

        Parameters
        ----------
        closed
            Tables that were closed some time ago: servers take events for seconds after it.
        """
        for table in self.stored():
            is_over = table.name in closed and not table.is_open
            if is_over and not self._client.exists(self.stream(table)):
                self._client.hdel(self._key, table.name)

    def stream(self, table: EventTable) -> bytes:
        """Return the key of a table's stream."""
        return event_stream_key(self._config.project, table.name)


def with_key_ttl(table: EventTable, config: OnlineConfig) -> EventTable:
    """Return a table that knows how long Redis keeps what is pushed."""
    if table.view is None:
        return table
    return replace(table, view=replace(table.view, key_ttl_seconds=config.key_ttl_seconds))

"""`runner ingest`: events from a file to the raw table of a dbt source, each once."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from contract.event_format import EventTable, events_name
from contract.event_values import EventReader
from runner import console
from runner.commands.online.event_argument import declared_table
from runner.commands.online.event_file import FileEvent, next_events, read_events, right_rows
from runner.commands.served.event_collection import writing
from runner.online.connection import connect
from runner.online.online_config import load_online_config
from runner.servers.local_servers import require_servers
from runner.settings import Settings
from runner.warehouse.collected_table import CollectedStore
from runner.warehouse.open_collected import open_collected
from runner.warehouse.raw_rows import RawRows, raw_table


@dataclass
class Ingested:
    """What `runner ingest` did.

    Attributes
    ----------
    known
        Events whose ids were in the table already.
    rejected
        The row of each event that is wrong, from 1, and the reason.
    """

    name: str
    written: int = 0
    known: int = 0
    rejected: list[tuple[int, str]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many rows of the file have been read."""
        return self.written + self.known + len(self.rejected)


def ingest(settings: Settings, name: str, source: str) -> Ingested:
    """Write the events of a file into the raw table of a dbt source.

    They do not wait in Redis: once this returns, the warehouse has them.

    Parameters
    ----------
    source
        A file, or `-` for stdin.
    """
    table = declared_table(settings, name, events_name, takes="events as")
    require_servers(settings)
    done = Ingested(f"{table.schema}.{table.relation}")
    config = load_online_config(settings)
    with (
        connect(settings, config) as connection,
        open_collected(settings, raw_table(table), table.schema) as store,
        console.bar("ingest", None) as bar,
    ):
        events = read_events(table, source)
        while batch := next_events(events, store.rows_at_once, done.rows):
            with writing(connection, config):  # a batch may take its producer hours
                _write(table, batch, store, done)
            bar.advance(len(batch))
    return done


def _write(
    table: EventTable, batch: list[FileEvent], store: CollectedStore, done: Ingested
) -> None:
    reader, made, now = EventReader(table), RawRows(table), datetime.now(UTC)
    right = right_rows(batch, reader.read, done.rejected)
    rows = made.received(now, reader.columns, right)
    written = store.append(rows) if rows else 0
    done.written += written
    done.known += len(rows) - written

"""Events, from Redis to the raw tables of their dbt sources; and which sources take events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from contract.event_format import EventTable
from runner import console
from runner.collecting.drain import Drained, drain
from runner.collecting.event_rows import EventRows
from runner.collecting.event_tables import EventTables
from runner.collecting.log_stream import LogStream
from runner.errors import RunnerError
from runner.online.connection import OnlineConnection, connect
from runner.online.lease import Lease, holding
from runner.online.online_config import OnlineConfig, load_online_config
from runner.project.event_sources import event_tables
from runner.settings import Settings
from runner.warehouse.open_collected import open_collected
from runner.warehouse.raw_rows import raw_table

_PAGE = 10
"""How many entries are read at once: each is a complete request, by default of up to 1 MiB."""


@dataclass(frozen=True)
class CollectedEvents:
    """What was done with the events of one table.

    Attributes
    ----------
    name
        The dbt source's table, as `schema.relation`; `sources` if a declaration is wrong.
    known
        Events that were in the table already: retries, or what an interrupted run had written.
    foreign
        Entries that are not of this version; they are dropped.
    error
        Why some still wait; None: no event waits.
    """

    name: str
    written: int
    known: int
    foreign: int
    error: RunnerError | None = None


@contextmanager
def collecting(settings: Settings) -> Iterator[tuple[OnlineConnection, OnlineConfig]]:
    """Open Redis for the one process that may write raw tables now; others wait."""
    config = load_online_config(settings)
    with connect(settings, config) as connection, writing(connection, config):
        yield connection, config


def writing(connection: OnlineConnection, config: OnlineConfig) -> AbstractContextManager[Lease]:
    """Be the one process that may write raw tables; others wait until the block ends."""
    lease = Lease(connection, config.project, "the serving log", work="collect")
    return holding(lease, console.note)


def collect_events(
    settings: Settings,
    connection: OnlineConnection,
    config: OnlineConfig,
    progress: Callable[[int], None],
) -> list[CollectedEvents]:
    """Move each table's events to the warehouse; a table that fails does not stop the others."""
    known = EventTables(connection, config)
    closed = {table.name for table in known.stored() if not table.is_open}
    done = []
    try:
        if settings.manifest_path.is_file():
            known.publish(event_tables(settings.manifest_path))
    except RunnerError as err:  # what waits is collected as it was declared before
        done.append(CollectedEvents("sources", 0, 0, 0, err))
    for table in known.stored():
        began = datetime.now(UTC)
        stream = LogStream(connection, known.stream(table), _PAGE)
        done.append(_collect(settings, table, stream, progress))
        if done[-1].error is None:
            known.note_collected(table, began)
    known.drop_closed(closed)
    return done


def publish_event_tables(settings: Settings) -> None:
    """Let servers take events of sources that are in dbt's manifest and not yet in Redis.

    The manifest may be older than what `runner collect` published: it changes no other table.
    """
    tables = event_tables(settings.manifest_path) if settings.manifest_path.is_file() else []
    if not tables:
        return
    config = load_online_config(settings)
    with connect(settings, config) as connection:
        EventTables(connection, config).add(tables)


def _collect(
    settings: Settings, table: EventTable, stream: LogStream, progress: Callable[[int], None]
) -> CollectedEvents:
    reader = EventRows(table)
    drained, error = Drained(), None
    try:
        with open_collected(settings, raw_table(table), table.schema) as store:
            store.create()  # dbt models may read it before anything has come
            drained = drain(stream, reader, store, progress)
    except RunnerError as err:
        error = err
    name = f"{table.schema}.{table.relation}"
    return CollectedEvents(name, drained.written, drained.known, reader.foreign, error)

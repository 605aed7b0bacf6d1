"""`runner collect` and `runner forget`: the serving log and events, from Redis to the warehouse."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from contract.log_format import stream_key
from runner import console
from runner.collecting.drain import drain
from runner.collecting.log_stream import LogStream
from runner.collecting.served_rows import PREDICTIONS, ServedRows, logged_keys
from runner.commands.served.event_collection import CollectedEvents, collect_events, collecting
from runner.duration import option_duration
from runner.errors import RunnerError
from runner.online.connection import connect
from runner.online.online_config import load_online_config
from runner.project import freshness
from runner.servers.local_servers import require_servers
from runner.settings import Settings
from runner.warehouse.open_collected import RAW_SCHEMAS, open_collected
from runner.wording import did_you_mean


@dataclass(frozen=True)
class Collected:
    """What `runner collect` did.

    Attributes
    ----------
    known
        Rows that an interrupted run had written already.
    lost
        Rows that servers had answered and that left Redis before they were collected.
    foreign
        Entries of the stream that are not of a serving log; they are dropped.
    deleted
        Rows older than `--keep`.
    events
        What was done with the events of each table that takes some.
    is_outdated
        Whether dbt may not have read how a table is declared now.
    """

    table: str
    written: int
    known: int
    lost: int
    foreign: int
    deleted: int
    events: tuple[CollectedEvents, ...] = ()
    is_outdated: bool = False

    @property
    def errors(self) -> list[RunnerError]:
        """Why events still wait."""
        return [each.error for each in self.events if each.error is not None]


def collect(settings: Settings, keep: str | None) -> Collected:
    """Move the serving log and events to the warehouse.

    Parameters
    ----------
    keep
        How long rows are kept, such as `90d`: those of older days are deleted.
    """
    first = None
    if keep is not None:
        first = (datetime.now(UTC) - option_duration("--keep", keep, "90d")).date()
    require_servers(settings)
    with collecting(settings) as (connection, config), console.bar("collect", None) as bar:
        with open_collected(settings, PREDICTIONS) as store:
            reader = ServedRows(connection, config.project)
            stream = LogStream(connection, stream_key(config.project))
            store.create()  # a table of an earlier version gets its new columns, rows or not
            drained = drain(stream, reader, store, bar.advance)
            deleted = 0 if first is None else store.delete_before(first)
        events = collect_events(settings, connection, config, bar.advance)
    return Collected(
        _table(settings),
        drained.written,
        drained.known,
        reader.lost,
        reader.foreign,
        deleted,
        tuple(events),
        freshness.is_newer_than_manifest(settings),
    )


def forget(settings: Settings, entity: str) -> tuple[str, int]:
    """Delete the logged rows of an entity, collected or not; return the table and the row count.

    Parameters
    ----------
    entity
        One entity key, as `key=value`. A key that the log has hashed is found too.

    Raises
    ------
    RunnerError
        If nothing was deleted and no logged model has such a key: it is misspelled.
    """
    name, found, value = entity.partition("=")
    if not (name and found and value):
        raise RunnerError(
            f"{entity!r} is not KEY=VALUE", hint="name one entity key, such as user_id=123"
        )
    collect(settings, None)
    values = [value, hashlib.sha256(value.encode()).hexdigest()]
    with open_collected(settings, PREDICTIONS) as store:
        deleted = store.delete_where("entity_keys", name, values)
    if not deleted:
        _require_logged_key(settings, name)
    return _table(settings), deleted


def _require_logged_key(settings: Settings, name: str) -> None:
    config = load_online_config(settings)
    with connect(settings, config) as connection:
        known = logged_keys(connection, config.project)
    if known and name not in known:
        raise RunnerError(
            f"no logged model has the entity key {name!r}{did_you_mean(name, known)}",
            hint=f"entity keys of logged models: {', '.join(known)}",
        )


def _table(settings: Settings) -> str:
    return f"{RAW_SCHEMAS[settings.target]}.{PREDICTIONS.name}"

"""Until when the mart has what was pushed to a view: later values must not be removed.

An entity that is pushed to may not be in the mart yet. `runner collect` notes when it began; the
raw table then has every row that was pushed before. Whether dbt has built the mart with those rows
is seen by the rows themselves: a collection may end while dbt builds, and a materialization may
run more often than dbt.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from contract.event_format import EventTable, event_tables_key
from runner.online.connection import OnlineConnection
from runner.online.full_redis import write_though_full
from runner.online.watermark import BuiltPushes, Watermark
from runner.project.manifest import FeatureMart
from runner.warehouse.mart_snapshot import MartSnapshot

_CLOCKS_DIFFER = timedelta(minutes=1)


def note_collected(
    connection: OnlineConnection, project: str, view: str, began: datetime | None
) -> None:
    """Note when the last finished collection began; None: no collection yet, unless one is known.

    The event time of a row is by the clock of the server that took it.
    """
    if began is None:
        write_though_full(connection, "SETNX", _key(project, view), 0.0)
    else:
        write_though_full(connection, "SET", _key(project, view), _minute_before(began))


def forget_collected(connection: OnlineConnection, project: str, view: str) -> None:
    """Note that the view no longer takes pushes."""
    connection.client.delete(_key(project, view))


def collected_until(connection: OnlineConnection, project: str, view: str) -> float | None:
    """Return up to which event time, in Unix seconds, pushed rows are in the raw table.

    None: the view takes no pushes.
    """
    noted = connection.client.get(_key(project, view))
    return None if noted is None else float(noted)


def built_pushes(
    connection: OnlineConnection, project: str, snapshot: MartSnapshot, last: Watermark | None
) -> BuiltPushes:
    """Return up to where the mart has what was pushed.

    Parameters
    ----------
    last
        What the last complete run left. Its collection had ended before this snapshot.
    """
    before = (last.built if last else None) or BuiltPushes(0.0, None)
    table = _raw_table(connection, project, snapshot.mart)
    if table is None:
        return before
    seen = snapshot.pushes_seen(table.schema, table.relation, before.newest)
    # A clock that was ahead when that collection began may have noted a time to come.
    limits = [last.collected or 0.0 if last else 0.0, _minute_before(snapshot.now)]
    if not seen.is_last:  # rows of a file may be in the table before others: the limits count too
        received = _minute_before(seen.received_at) if seen.received_at else 0.0
        limits.append(max(before.until, received))
    return BuiltPushes(min(limits), seen.place or before.newest)


def _minute_before(instant: datetime) -> float:
    return (instant - _CLOCKS_DIFFER).timestamp()


def _raw_table(connection: OnlineConnection, project: str, mart: FeatureMart) -> EventTable | None:
    """Return the table of the rows that are pushed to a mart as it is now; None: there is none."""
    wanted = (mart.name, {*mart.join_keys}, mart.timestamp_field)
    for content in connection.client.hvals(event_tables_key(project)):
        table = EventTable.parse(content)
        view = table.view if table and table.is_open else None
        if view and (view.name, {*view.keys}, view.timestamp) == wanted:
            return table if mart.created_timestamp_column else None
    return None


def _key(project: str, view: str) -> str:
    return f"runner:push:collected:{project}:{view}"

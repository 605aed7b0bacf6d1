"""Until when the warehouse has what was pushed to a view: later values must not be removed.

An entity that is pushed to may not be in the mart yet. `runner collect` notes when it began; a
build after it has every row that was pushed before. A collection may end while the build runs, so
what the mart has is what was collected before the materialization that preceded the build.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from runner.online.connection import OnlineConnection

_CLOCKS_DIFFER = timedelta(minutes=1)


def note_collected(
    connection: OnlineConnection, project: str, view: str, began: datetime | None
) -> None:
    """Note when the last finished collection began; None: no collection yet, unless one is known.

    The event time of a row is by the clock of the server that took it.
    """
    if began is None:
        connection.client.setnx(_key(project, view), 0.0)
    else:
        connection.client.set(_key(project, view), (began - _CLOCKS_DIFFER).timestamp())


def forget_collected(connection: OnlineConnection, project: str, view: str) -> None:
    """Note that the view no longer takes pushes."""
    connection.client.delete(_key(project, view))


def collected_until(connection: OnlineConnection, project: str, view: str) -> float | None:
    """Return up to which event time, in Unix seconds, pushed rows are in the raw table.

    None: the view takes no pushes.
    """
    noted = connection.client.get(_key(project, view))
    return None if noted is None else float(noted)


def _key(project: str, view: str) -> str:
    return f"runner:push:collected:{project}:{view}"

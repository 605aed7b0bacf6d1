"""Until when the warehouse has what was pushed to a view: later values must not be swept away.

An entity that is pushed to may not be in the mart yet. `runner collect` notes when it began; a
build after it has every row that was pushed before.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from runner.online.connection import OnlineConnection

_CLOCKS_DIFFER = timedelta(minutes=1)


def note_collected(
    connection: OnlineConnection, project: str, view: str, began: datetime | None
) -> None:
    """Note when a collection began that has ended; None: there has been none, unless one is known.

    The event time of a row is by the clock of the server that took it.
    """
    if began is None:
        connection.client.setnx(_key(project, view), 0.0)
    else:
        connection.client.set(_key(project, view), (began - _CLOCKS_DIFFER).timestamp())


def forget_collected(connection: OnlineConnection, project: str, view: str) -> None:
    """Note that nothing is pushed to the view any more."""
    connection.client.delete(_key(project, view))


def swept_until(connection: OnlineConnection, project: str, view: str, as_of: datetime) -> float:
    """Return up to which event time, in Unix seconds, a value without a row in the mart may go."""
    noted = connection.client.get(_key(project, view))
    instant = as_of.timestamp()
    return instant if noted is None else min(instant, float(noted))


def _key(project: str, view: str) -> str:
    return f"runner:push:collected:{project}:{view}"

"""How much of the serving log and of events waits for collection; see `doctor.py`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from contract.log_format import stream_key
from runner.errors import RunnerError
from runner.settings import Settings
from runner.wording import counted

if TYPE_CHECKING:
    from runner.collecting.log_stream import Backlog

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def serving_log(settings: Settings) -> str:
    """See what waits: how much, and for how long."""
    from runner.collecting.log_stream import LogStream
    from runner.online.connection import connect
    from runner.online.online_config import load_online_config

    config = load_online_config(settings)
    with connect(settings, config) as connection:
        return _told(LogStream(connection, stream_key(config.project)).backlog())


def events(settings: Settings) -> str:
    """See what waits of each table that takes events; raises if a declaration is wrong."""
    from runner.project.event_sources import event_tables

    if settings.manifest_path.is_file():
        event_tables(settings.manifest_path)
    return waiting_events(settings) or "no dbt source takes any"


def waiting_events(settings: Settings) -> str:
    """See what waits of each table that takes events; empty if there is none."""
    from runner.collecting.event_tables import EventTables
    from runner.collecting.log_stream import LogStream
    from runner.online.connection import connect
    from runner.online.online_config import load_online_config

    config = load_online_config(settings)
    with connect(settings, config) as connection:
        known = EventTables(connection, config)
        found = [
            f"{table.name}: {_told(LogStream(connection, known.stream(table)).backlog())}"
            for table in known.stored()
        ]
    return "; ".join(found)


def waiting_at_hand(settings: Settings, look: Callable[[Settings], str] = serving_log) -> str:
    """Return what waits, for a command that is about something else; nothing if it is not known."""
    from redis.exceptions import RedisError

    try:
        return look(settings)
    except (RunnerError, RedisError):
        return ""


def _told(waiting: Backlog) -> str:
    if waiting.oldest is None:
        return "nothing waits for `runner collect`"
    age = _age((datetime.now(UTC) - waiting.oldest).total_seconds())
    size = f"of {waiting.size / 2**20:.1f} MiB"
    entries = counted(waiting.entries, f"entry {size} waits", f"entries {size} wait")
    return f"{entries} for `runner collect`, the oldest for {age}"


def _age(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"

"""What of the serving log waits to be collected; see `runner.commands.doctor`."""

from __future__ import annotations

from datetime import UTC, datetime

from contract.log_format import stream_key
from runner.errors import RunnerError
from runner.settings import Settings

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def serving_log(settings: Settings) -> str:
    """See what waits: how much, and for how long."""
    from runner.collecting.log_stream import LogStream
    from runner.online.connection import connect
    from runner.online.online_config import load_online_config

    config = load_online_config(settings)
    with connect(settings, config) as connection:
        waiting = LogStream(connection, stream_key(config.project)).backlog()
    if waiting.oldest is None:
        return "nothing waits for `runner collect`"
    age = _age((datetime.now(UTC) - waiting.oldest).total_seconds())
    size = f"{waiting.entries:,} entries of {waiting.size / 2**20:.1f} MiB"
    return f"{size} wait for `runner collect`, the oldest for {age}"


def waiting_at_hand(settings: Settings) -> str:
    """Return what waits, for a command that is about something else; nothing if it is not known."""
    from redis.exceptions import RedisError

    try:
        return serving_log(settings)
    except (RunnerError, RedisError):
        return ""


def _age(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"

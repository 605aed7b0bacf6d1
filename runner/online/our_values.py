"""Which stored values are from earlier runs, where one is newer than what the mart has now.

Such a row was deleted from the mart, so its value may be replaced. A value that another process
wrote stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from runner.online.connection import OnlineConnection
from runner.online.redis_encoding import stored_time


class WrittenTimes:
    """The latest event time that runs wrote for each entity key since the last comparison.

    A hash in the online store. A run that follows new rows does not see deletions; the next
    comparison knows by this hash that the value is not another process's.
    """

    def __init__(self, connection: OnlineConnection, project: str, view: str) -> None:
        self._client = connection.client
        self._key = f"runner:materialize:written:{project}:{view}"

    def note(self, keys: Sequence[bytes], times: Sequence[bytes], ttl: int | None) -> None:
        """Note what is about to be written.

        A later time stays: the value of that time is in the store until this one replaces it.
        """
        if not keys:
            return
        latest = [
            new if old is None or stored_time(old) < stored_time(new) else old
            for old, new in zip(self.times(keys), times, strict=True)
        ]
        pairs = [part for pair in zip(keys, latest, strict=True) for part in pair]
        self._client.execute_command("HSET", self._key, *pairs)
        if ttl is not None:
            self._client.expire(self._key, ttl)

    def times(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return each key's latest written time, as stored; None: not known."""
        found: list[bytes | None] = self._client.hmget(self._key, list(keys))
        return found

    def clear(self) -> None:
        """Forget it all."""
        self._client.unlink(self._key)


@dataclass(frozen=True)
class OurValues:
    """What a run knows of values that earlier runs wrote.

    Attributes
    ----------
    until
        Whatever is stored up to this time came from the mart; None: not known of any.
    written
        What was written later.
    """

    until: datetime | None
    written: WrittenTimes

    def limits(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the stored time up to which each key's value is known to be from the mart."""
        return self.written.times(keys) if keys else []

    def include(self, stored: bytes, limit: bytes | None) -> bool:
        """Return whether a value of the time `stored` is ours, by `until` or what `limits` says."""
        seconds = stored_time(stored)
        if self.until is not None and seconds <= self.until.timestamp():
            return True
        return limit is not None and seconds <= stored_time(limit)

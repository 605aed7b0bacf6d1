"""A Redis Stream that is read from its beginning, and trimmed once its entries are in a table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import redis

from runner.online.connection import OnlineConnection

_PAGE = 100
Entry = tuple[bytes, dict[bytes, bytes]]
"""Its id and its fields."""


@dataclass(frozen=True)
class Backlog:
    """What waits in a stream.

    Attributes
    ----------
    oldest
        When the first of its entries was written; None: there is none.
    size
        What it takes of Redis's memory, in bytes.
    """

    entries: int
    oldest: datetime | None
    size: int


class LogStream:
    """One stream.

    Parameters
    ----------
    page
        How many entries are read at once.
    """

    def __init__(self, connection: OnlineConnection, key: bytes, page: int = _PAGE) -> None:
        self._client = connection.client
        self._key = key
        self._page = page

    def newest(self) -> bytes | None:
        """Return the id of the last entry; None where there is none."""
        found: list[Entry] = self._client.xrevrange(self._key, count=1)
        return found[0][0] if found else None

    def read(self, after: bytes | None, until: bytes) -> list[Entry]:
        """Return some entries, oldest first, `after` one and up to another; none at the end."""
        start = "-" if after is None else b"(" + after
        found: list[Entry] = self._client.xrange(self._key, start, until, count=self._page)
        return found

    def drop(self, last: bytes) -> None:
        """Delete the entries up to `last`."""
        milliseconds, _, number = last.partition(b"-")
        following = b"%b-%d" % (milliseconds, int(number) + 1)
        self._client.xtrim(self._key, minid=following, approximate=False)

    def backlog(self) -> Backlog:
        """Return what waits."""
        first: list[Entry] = self._client.xrange(self._key, count=1)
        oldest = None
        if first:
            milliseconds = int(first[0][0].partition(b"-")[0])
            oldest = datetime.fromtimestamp(milliseconds / 1000, UTC)
        try:
            size = self._client.memory_usage(self._key) or 0
        except redis.ResponseError:  # some hosts do not allow it
            size = 0
        return Backlog(self._client.xlen(self._key), oldest, size)

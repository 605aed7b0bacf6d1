"""How many connections are open, and which of them is closed when there are too many."""

from __future__ import annotations

from typing import Protocol

from contract.serving_settings import Limits
from serving.metrics import Metrics


class Connection(Protocol):
    """One connection, as its server sees it."""

    def drop(self) -> None:
        """Close it at once, with whatever it was about to send."""


class Connections:
    """The open connections of one server.

    Where one more would be too many, the one that has been idle longest makes room. Whoever keeps
    connections open and says nothing therefore shuts nobody out, a load balancer's probe least.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limit = limits.connections
        self._buffered_bytes = limits.buffered_bytes
        self._metrics = metrics
        self._idle: dict[Connection, None] = {}  # a set in order: the longest idle first
        self._unsent: dict[Connection, int] = {}

    def opened(self, connection: Connection) -> bool:
        """Count one more; return False if it has to be closed: all others wait for an answer."""
        if self._metrics.connections >= self.limit:
            if not self._idle:
                self._metrics.connections_closed["limit"] += 1
                return False
            oldest = next(iter(self._idle))
            self.close(oldest, "idle")
        self._metrics.connections += 1
        self._idle[connection] = None
        return True

    def busy(self, connection: Connection) -> None:
        """Note that a request is being answered."""
        self._idle.pop(connection, None)

    def idle(self, connection: Connection) -> None:
        """Note that nothing is being answered any more."""
        self._idle[connection] = None

    def close(self, connection: Connection, reason: str) -> None:
        """Close it now, for a reason that is counted."""
        self._metrics.connections_closed[reason] += 1
        self._idle.pop(connection, None)
        connection.drop()

    def lost(self, connection: Connection) -> None:
        """Note that it has ended."""
        self._metrics.connections -= 1
        self._idle.pop(connection, None)
        self.unsent(connection, 0)

    def unsent(self, connection: Connection, size: int) -> None:
        """Note how much it has been sent and has not read; too much in all is not kept."""
        self._metrics.buffered_bytes += size - self._unsent.pop(connection, 0)
        if size:
            self._unsent[connection] = size
            if self._metrics.buffered_bytes > self._buffered_bytes:
                self.close(connection, "not reading")

"""How many connections are open, and which of them is closed when there are too many."""

from __future__ import annotations

from typing import Protocol

from contract.serving_settings import Limits
from serving.metrics import Metrics


class Connection(Protocol):
    """One connection, as its server sees it."""

    @property
    def idle(self) -> bool:
        """Whether no request waits for its answer."""

    @property
    def used(self) -> bool:
        """Whether there has been a request."""

    def drop(self) -> None:
        """Close it at once, with whatever it was about to send."""


class Connections:
    """The open connections of one server.

    Where one more would be too many, one that is idle makes room: the oldest that has never asked,
    else the oldest. Whoever opens connections and says nothing therefore shuts nobody out, a load
    balancer's probe least of all.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limit = limits.connections
        self._buffered_bytes = limits.buffered_bytes
        self._metrics = metrics
        self._open: dict[Connection, None] = {}  # a set in the order of opening
        self._unread: dict[Connection, int] = {}

    def opened(self, connection: Connection) -> bool:
        """Count one more; return False if it has to be closed: all others wait for an answer."""
        if len(self._open) >= self.limit:
            idle = [other for other in self._open if other.idle]
            if not idle:
                self._metrics.connections_closed["limit"] += 1
                return False
            self.close(next((other for other in idle if not other.used), idle[0]), "idle")
        self._open[connection] = None
        self._metrics.connections = len(self._open)
        return True

    def close(self, connection: Connection, reason: str) -> None:
        """Close it now, for a reason that is counted."""
        self._metrics.connections_closed[reason] += 1
        self._open.pop(connection, None)
        connection.drop()

    def lost(self, connection: Connection) -> None:
        """Note that it has ended."""
        self._open.pop(connection, None)
        self._metrics.connections = len(self._open)
        self.unread(connection, 0)

    def unread(self, connection: Connection, size: int) -> None:
        """Note how much it has been sent and has not read; too much in all is not kept."""
        self._metrics.buffered_bytes += size - self._unread.pop(connection, 0)
        if size:
            self._unread[connection] = size
            if self._metrics.buffered_bytes > self._buffered_bytes:
                self.close(connection, "not reading")

"""Leases in Redis: one process at a time writes a view, refreshes, or collects a log.

A lease expires, so that a run that was killed blocks nobody for long.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis

from runner.errors import RunnerError
from runner.online.connection import OnlineConnection
from runner.online.full_redis import write_though_full
from runner.online.scripts import RELEASE, RENEW

_LEASE_SECONDS = 15.0
_RENEWAL_SECONDS = 3.0
_POLL_SECONDS = 0.05


class Lease:
    """The right to work on one view or log, held by one process and kept alive while it works.

    Parameters
    ----------
    view
        What is worked on; it is part of the lease's key, and of messages.
    work
        The command that does the work.
    """

    def __init__(
        self, connection: OnlineConnection, project: str, view: str, work: str = "materialize"
    ) -> None:
        self._connection = connection
        self._client = connection.client
        self._view = view
        self._work = work
        self.key = f"runner:{work}:lease:{project}:{view}".encode()
        self.token = f"{host_name()}/{os.getpid()}/{uuid.uuid4()}".encode()
        self._renewed = 0.0

    def acquire(self, waiting: Callable[[str], None]) -> None:
        """Take the lease; waits for its holder, but not for one that died on this machine."""
        reported = False
        while not self._try():
            holder = self._client.get(self.key)
            if holder is not None and _is_dead(holder):
                self._client.eval(RELEASE, 1, self.key, holder)
            elif holder is not None:
                if not reported:
                    waiting(f"{self._view}: waiting for the run of {_readable(holder)}")
                    reported = True
                time.sleep(_POLL_SECONDS)

    def renew(self) -> None:
        """Keep the lease; cheap to call often.

        Raises
        ------
        RunnerError
            If another run has taken it.
        """
        if time.monotonic() - self._renewed > 2 * _RENEWAL_SECONDS and not self._extend():
            raise self.lost()

    def keep(self, ended: threading.Event) -> None:
        """Renew until `ended`: a query of the warehouse may take longer than a lease lasts."""
        while not ended.wait(_RENEWAL_SECONDS):
            try:
                if not self._extend():
                    return
            except redis.RedisError:  # whoever writes meets it too, and reports it
                continue

    def release(self) -> None:
        """Give the lease back."""
        self._client.eval(RELEASE, 1, self.key, self.token)

    def lost(self) -> RunnerError:
        """Return the error for a lease that another run has taken."""
        return RunnerError(
            f"`runner {self._work}` stopped at {self._view}: this process paused for longer than "
            f"{_LEASE_SECONDS:.0f} s, and another run may have taken over",
            hint=f"nothing to repair; run `runner {self._work}` again if that other run fails",
        )

    def _extend(self) -> bool:
        kept = self._client.eval(RENEW, 1, self.key, self.token, int(_LEASE_SECONDS * 1000))
        if kept:
            self._renewed = time.monotonic()
        return bool(kept)

    def _try(self) -> bool:
        lasts = int(_LEASE_SECONDS * 1000)
        given = (self.key, self.token, "NX", "PX", lasts)
        taken = write_though_full(self._connection, "SET", *given)
        self._renewed = time.monotonic()
        return bool(taken)


@contextmanager
def holding(lease: Lease, waiting: Callable[[str], None]) -> Iterator[Lease]:
    """Hold `lease` for the block."""
    lease.acquire(waiting)
    ended = threading.Event()
    keeper = threading.Thread(target=lease.keep, args=(ended,), daemon=True, name="lease")
    keeper.start()
    try:
        yield lease
    finally:
        ended.set()
        keeper.join()
        lease.release()


def _is_dead(holder: bytes) -> bool:
    host, pid, _ = holder.decode().rsplit("/", 2)
    if host != host_name():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _readable(holder: bytes) -> str:
    host, pid, _ = holder.decode().rsplit("/", 2)
    return f"process {pid} on {host}"


def host_name() -> str:
    """Return this machine's name."""
    return socket.gethostname()

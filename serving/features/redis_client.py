"""One pipelined connection to one Redis-protocol server, made for many small reads at once.

Many share the connection: each writes its commands and the replies come back in order. While the
server is away every read fails at once and the connection is tried again in the background;
nothing needs a restart.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis

from contract.redis_address import RedisAddress
from contract.redis_refusal import hung_up, not_connected, require_login
from contract.serving_errors import ConfigurationError, OnlineStoreUnavailableError
from serving.logs import log

_FIRST_BACKOFF = 0.02
_LAST_BACKOFF = 0.5
_CONNECT_TIMEOUT = 1.0
_MAP = ("CLUSTER", "SLOTS")
Replies = list[object]
"""Of bytes, numbers, lists, None, or an error of hiredis."""
_GRACE = 0.005
"""A late reply may already wait in the socket when our own event loop was the slow one."""


class _Batch:
    """Commands on their way, and the replies that have come back."""

    __slots__ = ("deadline", "expected", "future", "replies")

    def __init__(self, future: asyncio.Future[Replies], expected: int, deadline: float) -> None:
        self.future = future
        self.expected = expected
        self.deadline = deadline
        self.replies: Replies = []


class _Connection(asyncio.Protocol):
    """One connection. When a batch is late the connection is given up with all it carries."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reader = hiredis.Reader()
        self._batches: deque[_Batch] = deque()
        self._transport: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._feeds = 0
        self._suspect: tuple[_Batch, int] | None = None
        self.lost = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass

    def send(self, payload: bytes, expected: int, timeout: float) -> asyncio.Future[Replies]:
        future: asyncio.Future[Replies] = self._loop.create_future()
        if self._transport is None or self._transport.is_closing():
            future.set_exception(unavailable())
            return future
        batch = _Batch(future, expected, self._loop.time() + timeout)
        self._batches.append(batch)
        if self._watch is None:
            self._watch = self._loop.call_at(batch.deadline, self._check)
        self._transport.write(payload)
        return future

    def data_received(self, data: bytes) -> None:
        reader, batches = self._reader, self._batches
        self._feeds += 1
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                batch = batches[0]
                batch.replies.append(reply)
                if len(batch.replies) == batch.expected:
                    batches.popleft()
                    if not batch.future.done():
                        batch.future.set_result(batch.replies)
        except (hiredis.ProtocolError, IndexError):  # not Redis, or replies nobody asked for
            self.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        for batch in self._batches:
            if not batch.future.done():
                batch.future.set_exception(unavailable())
        self._batches.clear()
        if not self.lost.done():
            self.lost.set_result(None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _check(self) -> None:
        """Give the connection up if the oldest batch is late and nothing comes in.

        When a batch is late, the socket is looked at once more before anybody is blamed: it may
        be our own event loop that was busy while the reply lay there.
        """
        self._watch = None
        if not self._batches:
            return
        oldest = self._batches[0]
        if self._loop.time() < oldest.deadline:
            self._watch = self._loop.call_at(oldest.deadline, self._check)
        elif self._suspect == (oldest, self._feeds):
            self.close()
        else:
            self._suspect = (oldest, self._feeds)
            self._watch = self._loop.call_later(_GRACE, self._check)


class RedisClient:
    """Reads from one server, and connects again by itself whenever the connection is lost.

    Parameters
    ----------
    purpose
        What its log lines call it.
    learn
        Called at every connection with this client and the server's `CLUSTER SLOTS`; with None
        where the server is not a node of a cluster.
    """

    def __init__(
        self,
        address: RedisAddress,
        timeout: float,
        learn: Callable[[RedisClient, list[Any] | None], None],
        purpose: str = "online store",
    ) -> None:
        self._purpose = purpose
        self.address = address
        self._wanted = address
        self._timeout = timeout
        self._learn = learn
        if address.tls is not None:
            address.tls.context()  # refuses at the start what can never work
        self._connection: _Connection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._first_try = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether the server answered the last greeting and the connection is open."""
        return self._connection is not None

    def begin(self) -> None:
        """Begin to connect, unless it has begun."""
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep_connected())

    async def start(self) -> None:
        """Begin to connect; return after the first try, whether it worked or not."""
        self.begin()
        await self._first_try.wait()

    def give_up(self) -> None:
        """Connect no more."""
        if self._keeper is not None:
            self._keeper.cancel()

    async def stop(self) -> None:
        """Close the connection for good."""
        self.give_up()
        if self._keeper is not None:
            await asyncio.wait([self._keeper])
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def send(self, payload: bytes, expected: int) -> asyncio.Future[Replies]:
        """Write packed commands; return the future of their `expected` replies.

        Raises
        ------
        OnlineStoreUnavailableError
            At once while there is no connection; from the future when it breaks or is late.
        """
        if self._connection is None:
            raise unavailable()
        return self._connection.send(payload, expected, self._timeout)

    async def ping(self) -> bool:
        """Return whether the server answers now."""
        try:
            (reply,) = await self.send(hiredis.pack_command(("PING",)), 1)
        except OnlineStoreUnavailableError:
            return False
        return bool(reply == b"PONG")

    async def _keep_connected(self) -> None:
        backoff = _FIRST_BACKOFF
        told = ""
        while True:
            try:
                connection = await self._connect()
            except OnlineStoreUnavailableError as err:
                if err.message != told:  # once, not twice a second
                    told = err.message
                    log("error", f"{self._purpose} unavailable", reason=told, hint=err.hint)
            else:
                backoff, told = _FIRST_BACKOFF, ""
                self._first_try.set()
                log("info", f"{self._purpose} connected", server=self.address.where)
                await connection.lost
                self._connection = None
                log("error", f"{self._purpose} connection lost", server=self.address.where)
            finally:
                self._first_try.set()
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, _LAST_BACKOFF)

    async def _connect(self) -> _Connection:
        """Return a connection whose greeting was answered; `send` uses it from then on."""
        loop = asyncio.get_running_loop()
        if self._wanted.sentinels is not None:  # after a failover the master is another one
            self.address = await asyncio.to_thread(self._wanted.resolved)
        address = self.address
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                connection = await self._open(loop)
        except OSError as err:  # a timeout is one too
            raise not_connected(address, err) from err
        except ConfigurationError as err:  # certificate and key are being renewed, one by one
            raise OnlineStoreUnavailableError(err.message, hint=err.hint) from err
        commands = [*address.greeting(), _MAP]
        payload = b"".join(hiredis.pack_command(command) for command in commands)
        try:
            *replies, slots = await self._answers(connection, payload, len(commands))
            require_login(address, replies)
        except BaseException:  # cancellation too: the socket must not outlive the try
            connection.close()
            raise
        self._connection = connection
        self._learn(self, slots if isinstance(slots, list) else None)
        return connection

    async def _open(self, loop: asyncio.AbstractEventLoop) -> _Connection:
        address = self.address
        if address.socket is not None:
            _, opened = await loop.create_unix_connection(lambda: _Connection(loop), address.socket)
            return opened
        tls = None if address.tls is None else address.tls.context()
        _, opened = await loop.create_connection(
            lambda: _Connection(loop), address.host, address.port, ssl=tls
        )
        return opened

    async def _answers(self, connection: _Connection, payload: bytes, expected: int) -> Replies:
        try:
            return await connection.send(payload, expected, _CONNECT_TIMEOUT)
        except OnlineStoreUnavailableError as err:
            raise hung_up(self.address) from err


def unavailable() -> OnlineStoreUnavailableError:
    """Return the error that clients of the API are answered with."""
    return OnlineStoreUnavailableError("the online store does not answer")

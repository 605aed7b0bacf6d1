"""A connection to the online store that takes many packed commands at once.

Works alike on one Redis-protocol server and on a cluster, with or without TLS and password.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Protocol

import hiredis
import redis
from redis.exceptions import AskError, MovedError, ResponseError, TryAgainError

from runner.errors import RunnerError
from runner.online.online_config import OnlineConfig
from runner.servers.redis_login import login
from runner.settings import Settings

_TIMEOUT = 30.0
_OUTSTANDING = 2
_SCANS, _SCANNED = 20, 5_000
_REDIRECTIONS = (MovedError, AskError, TryAgainError)

Replies = list[Any]
"""What a server answers: bytes, numbers, lists of them, None or an error of redis-py."""
Handler = Callable[[Replies], None]


class Wire(Protocol):
    """A connection of redis-py's, used directly."""

    def send_packed_command(self, command: Sequence[bytes]) -> None:
        """Send commands that are packed already."""

    def read_response(self) -> Any:
        """Return the next reply; raises it if it is an error."""

    def disconnect(self) -> None:
        """Close it."""


class WirePool(Protocol):
    """Where redis-py keeps connections."""

    def get_connection(self) -> Wire:
        """Return one that is open."""

    def release(self, connection: Wire) -> None:
        """Take one back."""


class OnlineConnection:
    """Packed commands go out in bulk, replies come back in order.

    Parameters
    ----------
    client
        A redis-py client; its connections are used directly, because packing and reading command
        by command in Python costs more than the server needs to run them.
    """

    def __init__(self, client: Any, *, is_cluster: bool) -> None:
        self.client = client
        self.is_cluster = is_cluster
        self._connections: dict[str, tuple[WirePool, Wire]] = {}
        self._extra: list[Wire] = []

    def send(self, commands: Sequence[bytes], keys: Sequence[bytes]) -> Callable[[], Replies]:
        """Send one packed command per key; the function returned waits for the replies.

        Replies must be fetched in the order of the sends. An error reply is returned as an
        exception, not raised.
        """
        shares = self._shares(keys)
        waiting = []
        for node, positions in shares.items():
            connection = self._connection(node)
            chosen = commands if len(shares) == 1 else [commands[i] for i in positions]
            connection.send_packed_command([b"".join(chosen)])
            waiting.append((connection, positions))
        return lambda: self._replies(commands, waiting)

    def ask(self, commands: Sequence[bytes], keys: Sequence[bytes]) -> Replies:
        """Return the reply to each command; raises the first error among them."""
        return _raise_errors(self.send(commands, keys)()) if commands else []

    def spares(self, count: int) -> list[Wire]:
        """Return `count` more redis-py connections to the one server; closed with this one."""
        pool = self.client.connection_pool
        while len(self._extra) < count:
            self._extra.append(pool.get_connection())
        return self._extra[:count]

    def scan(self, prefix: bytes, size: int) -> Iterator[list[bytes]]:
        """Return the keys that start with `prefix`, up to `size` at a time; some perhaps twice."""
        found = self.client.scan_iter(match=_glob(prefix) + b"*", count=size)
        while batch := list(islice(found, size)):
            yield batch

    def sample(self, prefix: bytes, suffix: bytes, size: int) -> tuple[list[bytes], bool]:
        """Return up to `size` of the keys that start and end so, and whether there are no others.

        It gives up after looking at some 100,000 keys of a server: then there may be.
        """
        found: set[bytes] = set()
        is_whole = True
        for node in self.client.get_primaries() if self.is_cluster else [None]:
            options = {} if node is None else {"target_nodes": node}
            cursor = 0
            for _ in range(_SCANS):
                cursor, keys = self.client.scan(
                    cursor, match=_glob(prefix) + b"*" + _glob(suffix), count=_SCANNED, **options
                )
                if node is not None:
                    cursor = cursor[node.name]
                found.update(keys)
                if len(found) >= size or cursor == 0:
                    break
            is_whole = is_whole and cursor == 0
            if len(found) >= size:
                return sorted(found)[:size], False
        return sorted(found), is_whole

    def close(self) -> None:
        """Close every connection, and the client."""
        self.release()
        self.client.close()

    def release(self) -> None:
        """Give the connections back to the client."""
        for pool, connection in self._connections.values():
            connection.disconnect()
            pool.release(connection)
        for connection in self._extra:
            connection.disconnect()
            self.client.connection_pool.release(connection)

    def _shares(self, keys: Sequence[bytes]) -> dict[str, Sequence[int]]:
        if not self.is_cluster:
            return {"": range(len(keys))}
        shares: dict[str, list[int]] = {}
        manager = self.client.nodes_manager
        for position, key in enumerate(keys):
            node = manager.get_node_from_slot(self.client.keyslot(key))
            shares.setdefault(node.name, []).append(position)
        return dict(shares)

    def _connection(self, node: str) -> Wire:
        if node not in self._connections:
            client = self.client
            if self.is_cluster:
                client = client.get_redis_connection(client.get_node(node_name=node))
            pool = client.connection_pool
            self._connections[node] = (pool, pool.get_connection())
        return self._connections[node][1]

    def _replies(
        self, commands: Sequence[bytes], waiting: list[tuple[Wire, Sequence[int]]]
    ) -> Replies:
        replies: Replies = [None] * len(commands)
        for connection, positions in waiting:
            for position in positions:
                try:
                    replies[position] = connection.read_response()
                except ResponseError as err:
                    replies[position] = err
        for position, reply in enumerate(replies):
            if isinstance(reply, _REDIRECTIONS):  # the cluster moves slots while we write
                name, *arguments = _unpack(commands[position])
                replies[position] = self.client.execute_command(name.decode(), *arguments)
        return replies


class Pipeline:
    """Keeps a few sends under way, so that the server works while the next one is prepared."""

    def __init__(self, connection: OnlineConnection) -> None:
        self._connection = connection
        self._waiting: deque[tuple[Callable[[], Replies], Handler]] = deque()

    def submit(self, commands: Sequence[bytes], keys: Sequence[bytes], handle: Handler) -> None:
        """Send `commands`; `handle` gets their replies later (it may submit more)."""
        if commands:
            self._waiting.append((self._connection.send(commands, keys), handle))

    def settle(self, outstanding: int = _OUTSTANDING) -> None:
        """Handle replies until no more than `outstanding` sends are under way."""
        while len(self._waiting) > outstanding:
            replies, handle = self._waiting.popleft()
            handle(_raise_errors(replies()))


@contextmanager
def connect(settings: Settings, config: OnlineConfig) -> Iterator[OnlineConnection]:
    """Open the online store that `REDIS_URL` names.

    Raises
    ------
    RunnerError
        If the server refuses us, or is a cluster where the feature_store yaml says it is none, or
        the other way round: Feast would go by the yaml and fail.
    """
    address = settings.redis
    if config.is_cluster and (address.database or address.socket):
        raise RunnerError(
            "REDIS_URL: a Redis Cluster has neither databases nor sockets",
            hint="write redis://<host>:<port>, or redis_type: redis in "
            f"{settings.feature_store_yaml}",
        )
    _check_kind(login(address), settings, config)
    kind = redis.RedisCluster if config.is_cluster else redis.Redis
    client = kind(
        host=address.host,
        port=address.port,
        **address.client_options(),
        socket_timeout=_TIMEOUT,
        socket_connect_timeout=5.0,
        socket_keepalive=True,
    )
    connection = OnlineConnection(client, is_cluster=config.is_cluster)
    try:
        yield connection
    finally:
        connection.close()


def _check_kind(told: Mapping[str, object], settings: Settings, config: OnlineConfig) -> None:
    mode = told.get("redis_mode") or told.get("server_mode")
    if mode is None or (mode == "cluster") == config.is_cluster:
        return
    where = settings.redis.where
    kind = "a node of a Redis Cluster" if mode == "cluster" else "a single Redis"
    raise RunnerError(
        f"{settings.feature_store_yaml}: online_store.redis_type does not fit: {where} is {kind}",
        hint=f"write redis_type: {'redis_cluster' if mode == 'cluster' else 'redis'}",
    )


def pack(*parts: bytes) -> bytes:
    """Return one RESP command."""
    packed: bytes = hiredis.pack_command(parts)
    return packed


def _unpack(command: bytes) -> list[bytes]:
    reader = hiredis.Reader()
    reader.feed(command)
    parts: list[bytes] = reader.gets()
    return parts


def _raise_errors(replies: Replies) -> Replies:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def _glob(literal: bytes) -> bytes:
    """Return a pattern that matches exactly `literal`."""
    return b"".join(b"\\" + bytes([c]) if c in b"*?[]\\^-" else bytes([c]) for c in literal)

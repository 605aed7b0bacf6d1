"""Reads from the online store, be it one Redis-protocol server or a cluster of them.

Which of the two `REDIS_URL` leads to, the server itself says at every connection. In a cluster each
key has a hash slot and each slot an owner; a node that is asked for another's key names the owner,
which is followed, and the map of owners is asked for again.
"""

from __future__ import annotations

import asyncio
from binascii import crc_hqx
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import hiredis

from contract.redis_address import RedisAddress
from contract.serving_errors import OnlineStoreUnavailableError
from serving.features.redis_client import ONLINE_STORE, RedisClient, unavailable
from serving.logs import log

_SLOTS = 16_384
_KEY_AFTER = b"\r\nHMGET\r\n$"
_ASK_MAP = hiredis.pack_command(("CLUSTER", "SLOTS"))
_ASKING = hiredis.pack_command(("ASKING",))


class OnlineStoreClient:
    """One connection to the server of `REDIS_URL` and, in a cluster, one to each owner of slots."""

    def __init__(self, address: RedisAddress, timeout: float, purpose: str = ONLINE_STORE) -> None:
        self._timeout = timeout
        self._purpose = purpose
        self._first = RedisClient(address, timeout, self._learn, purpose)
        self._nodes: dict[tuple[str, int], RedisClient] = {}
        self._owners: list[RedisClient | None] | None = None  # by hash slot; None: one server
        self._renewal: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Begin to connect."""
        self._first.begin()

    async def start(self) -> None:
        """Begin to connect; return after the first try of each, whether it worked or not."""
        await self._first.start()
        await asyncio.gather(*(node.start() for node in self._nodes.values()))

    async def stop(self) -> None:
        """Close every connection for good."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait([self._renewal])
        for client in (self._first, *self._nodes.values()):
            await client.stop()

    async def read(self, commands: Sequence[bytes]) -> list[object]:
        """Return the reply to each packed HMGET.

        Where its server does not answer, is late, or answers with an error, the reply is an
        OnlineStoreUnavailableError: the other commands may be other requests'.
        """
        if self._owners is None:
            replies = await _send(self._first, commands)
        else:
            slots = [hash_slot(_key(command)) for command in commands]
            replies = await self._ask_owners(self._owners, commands, slots)
        return [_refused(reply) if isinstance(reply, Exception) else reply for reply in replies]

    async def ask(self, slot: int, commands: Sequence[bytes]) -> list[object]:
        """Return the reply to each packed command about keys of one hash slot, errors among them.

        `slot` is that of `hash_slot`; it says nothing where there is one server.
        """
        return await self.ask_each([slot] * len(commands), commands)

    async def ask_each(self, slots: Sequence[int], commands: Sequence[bytes]) -> list[object]:
        """Return the reply to each packed command about keys of its slot, errors among them."""
        if self._owners is None:
            return await _send(self._first, commands)
        return await self._ask_owners(self._owners, commands, slots)

    async def ping(self) -> bool:
        """Return whether every server that keys may lie on answers now."""
        if self._owners is None:
            return await self._first.ping()
        owners = set(self._owners)
        answers = await asyncio.gather(*(node.ping() for node in owners if node is not None))
        if None in owners or not all(answers):
            self._renew_map()
            return False
        return True

    async def _ask_owners(
        self, owners: Sequence[RedisClient | None], commands: Sequence[bytes], slots: Sequence[int]
    ) -> list[object]:
        shares: dict[RedisClient | None, list[int]] = {}
        for position, slot in enumerate(slots):
            shares.setdefault(owners[slot], []).append(position)
        answers = await asyncio.gather(
            *(_send(node, [commands[at] for at in share]) for node, share in shares.items())
        )
        replies: list[object] = [None] * len(commands)
        for (node, share), answer in zip(shares.items(), answers, strict=True):
            for position, reply in zip(share, answer, strict=True):
                replies[position] = reply
                if node is None or isinstance(reply, OnlineStoreUnavailableError):
                    self._renew_map()
                elif isinstance(reply, hiredis.ReplyError):
                    replies[position] = await self._follow(node, str(reply), commands[position])
        return replies

    async def _follow(self, node: RedisClient, error: str, command: bytes) -> object:
        """Return the reply of the node that `MOVED slot host:port` or `ASK …` names."""
        kind, _, where = error.partition(" ")
        if kind not in {"MOVED", "ASK"}:
            return hiredis.ReplyError(error)
        host, _, port = where.rpartition(" ")[2].rpartition(":")
        owner = self._node(node, host.encode(), int(port))
        if not owner.connected:
            await owner.start()
        if kind == "ASK":  # only this key, for now
            return (await _send(owner, [_ASKING, command]))[1]
        self._renew_map()
        return (await _send(owner, [command]))[0]

    def _learn(self, client: RedisClient, slots: list[Any] | None) -> None:
        """Take over what a server says about the cluster; None: it is not in one."""
        if slots is None:
            if client is self._first:
                self._owners = None
            return
        owners: list[RedisClient | None] = [None] * _SLOTS
        for start, end, (host, port, *_), *_replicas in slots:
            owners[start : end + 1] = [self._node(client, host, port)] * (end + 1 - start)
        self._owners = owners
        for address, node in list(self._nodes.items()):
            if node not in owners and not node.connected:
                del self._nodes[address]
                node.give_up()

    def _node(self, client: RedisClient, host: bytes | None, port: int) -> RedisClient:
        """Return the client of a node that `client`'s server has named."""
        # None, empty and ? are the address that it was asked at.
        name = (host or b"?").decode()
        if name == "?":
            name = client.address.host
        node = self._nodes.get((name, port))
        if node is None:
            address = replace(client.address, host=name, port=port, sentinels=None)
            node = self._nodes[name, port] = RedisClient(
                address, self._timeout, self._learn, self._purpose
            )
            node.begin()
        return node

    def _renew_map(self) -> None:
        """Ask for the owners again, once for all who find the map wrong at the same time."""
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._ask_map())

    async def _ask_map(self) -> None:
        for client in (self._first, *self._nodes.values()):
            try:
                (slots,) = await client.send(_ASK_MAP, 1)
            except OnlineStoreUnavailableError:
                continue
            if isinstance(slots, list):
                self._learn(client, slots)
                return


async def _send(node: RedisClient | None, commands: Sequence[bytes]) -> list[object]:
    """Return the replies, or one error per command where they do not come; None: no such node."""
    try:
        if node is None:
            raise unavailable()
        return await node.send(b"".join(commands), len(commands))
    except OnlineStoreUnavailableError as err:
        return [err] * len(commands)


def _refused(reply: Exception) -> Exception:
    """Return the error that clients see, without the server's own words: those are logged."""
    if isinstance(reply, OnlineStoreUnavailableError):
        return reply
    log("error", "online store refused a command", reason=str(reply))
    return unavailable()


def hash_slot(key: bytes) -> int:
    """Return the slot of a key: of what is between its first braces, if anything is."""
    start = key.find(b"{") + 1
    end = key.find(b"}", start) if start else -1
    return crc_hqx(key[start:end] if end > start else key, 0) % _SLOTS


def _key(command: bytes) -> bytes:
    start = command.index(_KEY_AFTER) + len(_KEY_AFTER)
    end = command.index(b"\r\n", start)
    return command[end + 2 : end + 2 + int(command[start:end])]

"""Redis as a cloud offers it: with TLS and a password, alone or as a cluster of three."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

from tests.conftest import free_port
from tests.emulators.certificates import Certificate
from tests.emulators.processes import running

PASSWORD = "pä ss@w:rd/%"
_SLOTS = [(0, 5460), (5461, 10922), (10923, 16383)]
_JOINED_WITHIN_SECONDS = 60


@dataclass(frozen=True)
class RedisServers:
    """One server, or the nodes of a cluster; `certificate` None: plain, without a password.

    With `mutual` they want a certificate of the client too: the servers' own will do.
    """

    ports: tuple[int, ...]
    certificate: Certificate | None
    mutual: bool = False

    @property
    def url(self) -> str:
        """The `REDIS_URL` that works."""
        return self.url_of(self.ports[0])

    def url_of(self, port: int) -> str:
        """The URL of one node."""
        if self.certificate is None:
            return f"redis://127.0.0.1:{port}/0"
        password, ca = quote(PASSWORD, safe=""), self.certificate.authority
        url = f"rediss://:{password}@127.0.0.1:{port}/0?ssl_ca_certs={ca}"
        if self.mutual:
            url += (
                f"&ssl_certfile={self.certificate.certificate}&ssl_keyfile={self.certificate.key}"
            )
        return url

    def client(self) -> Any:
        """Return a redis-py client of all that is stored."""
        kind = redis.Redis if len(self.ports) == 1 else redis.RedisCluster
        return kind.from_url(self.url)

    def node(self, port: int) -> redis.Redis:
        """Return a redis-py client of one node."""
        return redis.Redis.from_url(self.url_of(port))


def debian_redis() -> Path:
    """Return the machine's own Redis: the wheel's Valkey is built without TLS."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        pytest.skip("needs redis-server on PATH: apt-get install redis-server")
    return Path(found)


@contextmanager
def one_redis(
    folder: Path, certificate: Certificate | None = None, *, mutual: bool = False
) -> Iterator[RedisServers]:
    """Keep one server running; with a certificate it speaks TLS only and wants `PASSWORD`."""
    servers = RedisServers((free_port(),), certificate, mutual)
    with _node(folder, servers, servers.ports[0]):
        yield servers


@contextmanager
def redis_cluster(folder: Path, certificate: Certificate | None = None) -> Iterator[RedisServers]:
    """Keep a cluster of three masters running; with a certificate as in `one_redis`."""
    servers = RedisServers(tuple(free_port() for _ in range(3)), certificate)
    buses = {port: free_port() for port in servers.ports}
    with ExitStack() as stack:
        for port, bus in buses.items():
            cluster = ["--cluster-enabled", "yes", "--cluster-port", str(bus)]
            stack.enter_context(_node(folder / str(port), servers, port, cluster))
        _join(servers, buses)
        yield servers


@contextmanager
def _node(
    folder: Path, servers: RedisServers, port: int, more: Sequence[str] = ()
) -> Iterator[None]:
    options = ["--port", str(port)]
    if servers.certificate is not None:
        options = ["--port", "0", "--tls-port", str(port)]
        options += ["--tls-auth-clients", "yes" if servers.mutual else "no"]
        options += ["--tls-cert-file", str(servers.certificate.certificate)]
        options += ["--tls-key-file", str(servers.certificate.key)]
        options += ["--tls-ca-cert-file", str(servers.certificate.authority)]
        options += ["--tls-cluster", "yes", "--tls-replication", "yes"]
        options += ["--requirepass", PASSWORD, "--masterauth", PASSWORD]
    command = [debian_redis(), "--bind", "127.0.0.1", "--save", "", *options, *more]
    with servers.node(port) as client, running(command, folder, lambda: _answers(client)):
        yield


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.ConnectionError:
        return False


def _join(servers: RedisServers, buses: dict[int, int]) -> None:
    nodes = [servers.node(port) for port in servers.ports]
    for node, slots in zip(nodes, _SLOTS, strict=True):
        node.execute_command("CLUSTER", "ADDSLOTSRANGE", *slots)
    for port, bus in list(buses.items())[1:]:
        nodes[0].execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus)
    deadline = time.monotonic() + _JOINED_WITHIN_SECONDS
    for node in nodes:
        while not _sees_all(node):
            assert time.monotonic() < deadline, "the cluster did not form"
            time.sleep(0.05)
        node.close()


def _sees_all(node: redis.Redis) -> bool:
    """Return whether the node knows an owner for every slot, at an address."""
    told = node.execute_command("CLUSTER", "INFO")
    state = told if isinstance(told, dict) else dict(_pairs(bytes(told).decode()))
    return state["cluster_state"] == "ok" and state["cluster_known_nodes"] == "3"


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, _, value = line.partition(":")
        yield name, value


def move_slot(servers: RedisServers, key: bytes) -> None:
    """Give the key's slot, with all its keys, to another node, behind the clients' back."""
    with servers.client() as cluster:
        slot = cluster.keyslot(key)
        source = cluster.nodes_manager.get_node_from_slot(slot).port
    target = next(port for port in servers.ports if port != source)
    old, new = servers.node(source), servers.node(target)
    old_id, new_id = (node.execute_command("CLUSTER", "MYID") for node in (old, new))
    new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", old_id)
    old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", new_id)
    for moved in old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
        old.execute_command("MIGRATE", "127.0.0.1", target, moved, 0, 5_000)
    for node in (new, old):
        node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", new_id)
        node.close()

"""Redis as a cloud offers it: with TLS and a password, alone or as a cluster of three."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import redis

from runner.servers.redis_server import embedded_binary
from tests.conftest import free_port
from tests.emulators.certificates import Certificate
from tests.emulators.processes import running

PASSWORD = "pä ss@w:rd/%"
SENTINEL_PASSWORD = "sentinels&own+"
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


@dataclass(frozen=True)
class WatchedRedis:
    """A master and its replica, and the Sentinel that watches them."""

    ports: tuple[int, int]
    sentinel: int

    @property
    def url(self) -> str:
        """The `REDIS_URL` that works, whichever of the two is the master."""
        return f"redis+sentinel://127.0.0.1:{self.sentinel}/shop"

    def master(self) -> int:
        """Return the master's port, as the Sentinel says."""
        with redis.Redis(port=self.sentinel) as client:
            return int(client.sentinel_get_master_addr_by_name("shop")[1])

    def fail_over(self) -> None:
        """Make the replica the master, and wait until it is."""
        before = self.master()
        with redis.Redis(port=self.sentinel) as client:
            client.execute_command("SENTINEL", "FAILOVER", "shop")
        _wait_for(lambda: self.master() != before)


@contextmanager
def watched_redis(folder: Path) -> Iterator[WatchedRedis]:
    """Keep a master, its replica and a Sentinel running."""
    watched = WatchedRedis((free_port(), free_port()), free_port())
    master, replica = watched.ports
    replicates = ["--replicaof", "127.0.0.1", str(master)]
    with ExitStack() as stack:
        for port, more in ((master, ()), (replica, replicates)):
            options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", *more]
            options += ["--repl-diskless-sync-delay", "0"]
            client = stack.enter_context(redis.Redis(port=port))
            where = folder / str(port)
            stack.enter_context(
                running([embedded_binary(), *options], where, partial(_answers, client))
            )
        _wait_for(lambda: client.info("replication").get("master_link_status") == "up")
        file = folder / "sentinel.conf"
        file.write_text(
            f"port {watched.sentinel}\nbind 127.0.0.1\nsentinel monitor shop 127.0.0.1 {master} 1\n"
        )
        sentinel = stack.enter_context(redis.Redis(port=watched.sentinel))
        command = [embedded_binary(), file, "--sentinel"]
        stack.enter_context(running(command, folder, partial(_answers, sentinel)))
        _wait_for(lambda: bool(sentinel.sentinel_slaves("shop")))
        yield watched


@dataclass(frozen=True)
class GuardedSentinel:
    """A Redis with `PASSWORD`, and a Sentinel with a login, TLS and client certificates."""

    port: int
    sentinel: int
    certificate: Certificate

    @property
    def plain_url(self) -> str:
        """The `REDIS_URL` without what the Sentinel asks for."""
        return f"redis+sentinel://:{quote(PASSWORD, safe='')}@127.0.0.1:{self.sentinel}/shop"

    @property
    def options(self) -> dict[str, str]:
        """What the Sentinel asks for, as options of `REDIS_URL`."""
        return {
            "sentinel_username": "clerk",
            "sentinel_password": SENTINEL_PASSWORD,
            "sentinel_ssl": "true",
            "sentinel_ssl_ca_certs": str(self.certificate.authority),
            "sentinel_ssl_certfile": str(self.certificate.certificate),
            "sentinel_ssl_keyfile": str(self.certificate.key),
        }

    def url(self, **options: str | None) -> str:
        """Return the URL with other options than `options`; None: without that one."""
        chosen = {**self.options, **options}
        return f"{self.plain_url}?{urlencode({k: v for k, v in chosen.items() if v is not None})}"


@contextmanager
def guarded_sentinel(folder: Path, certificate: Certificate) -> Iterator[GuardedSentinel]:
    """Keep a Redis and its Sentinel running."""
    guarded = GuardedSentinel(free_port(), free_port(), certificate)
    options = ["--port", str(guarded.port), "--bind", "127.0.0.1", "--save", ""]
    options += ["--requirepass", PASSWORD]
    file = folder / "sentinel.conf"
    file.write_text(
        f"port 0\ntls-port {guarded.sentinel}\nbind 127.0.0.1\n"
        f"tls-cert-file {certificate.certificate}\ntls-key-file {certificate.key}\n"
        f"tls-ca-cert-file {certificate.authority}\ntls-auth-clients yes\n"
        f"user default off\nuser clerk on >{SENTINEL_PASSWORD} allchannels +@all\n"
        f"sentinel monitor shop 127.0.0.1 {guarded.port} 1\n"
        f'sentinel auth-pass shop "{PASSWORD}"\n'
    )
    operator = redis.Redis(
        host="127.0.0.1",
        port=guarded.sentinel,
        username="clerk",
        password=SENTINEL_PASSWORD,
        ssl=True,
        ssl_ca_certs=str(certificate.authority),
        ssl_certfile=str(certificate.certificate),
        ssl_keyfile=str(certificate.key),
    )
    with (
        redis.Redis(port=guarded.port, password=PASSWORD) as master,
        operator,
        running([debian_redis(), *options], folder / "master", partial(_answers, master)),
        running([debian_redis(), file, "--sentinel"], folder, partial(_answers, operator)),
    ):
        yield guarded


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _JOINED_WITHIN_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


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

"""Redis Sentinel: several processes that watch a Redis and say which server is its master."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import hiredis

from contract.serving_errors import ConfigurationError, OnlineStoreUnavailableError

_PORT = 26_379
_SECONDS = 1.0
_SUFFIX = "+sentinel"


@dataclass(frozen=True)
class Sentinels:
    """Where they listen, without a password and TLS, and what they call the master."""

    hosts: tuple[tuple[str, int], ...]
    name: str

    def master(self) -> tuple[str, int]:
        """Return the host and port of the master, as the first Sentinel that knows it says.

        Raises
        ------
        OnlineStoreUnavailableError
            If none does.
        """
        reasons = []
        for host, port in self.hosts:
            try:
                reply = _ask(host, port, self.name)
            except (OSError, hiredis.ProtocolError) as err:
                reply = getattr(err, "strerror", None) or err
            if isinstance(reply, list):
                return reply[0].decode(), int(reply[1])
            reasons.append(f"{host}:{port}: {reply or 'knows no such master'}")
        raise OnlineStoreUnavailableError(
            f"no Sentinel says where the master {self.name} is ({'; '.join(reasons)})",
            hint="check REDIS_URL=redis+sentinel://<host>:26379,<host>:26379/<master>",
        )


def split_sentinels(url: str) -> tuple[str, Sentinels | None]:
    """Return the URL of a plain server, and the Sentinels that say where it is now, if any.

    `redis+sentinel://user:password@one:26379,two:26379/shop/0` is `redis://user:password@one:26379/0`
    at the master `shop`.

    Raises
    ------
    ConfigurationError
        If the Sentinels or the master's name are missing or wrong.
    """
    scheme, _, rest = url.partition("://")
    if not scheme.endswith(_SUFFIX):
        return url, None
    before, question, query = rest.partition("?")
    netloc, _, path = before.partition("/")
    login, at, listed = netloc.rpartition("@")
    name, _, database = path.partition("/")
    try:
        parts = [urlsplit(f"//{host}") for host in listed.split(",")]
        hosts = tuple((part.hostname or "", part.port or _PORT) for part in parts)
    except ValueError:
        hosts = ()
    if not name or not hosts or not all(host for host, _ in hosts):
        raise ConfigurationError(
            "REDIS_URL is not of the form redis+sentinel://[user:password@]host[:port][,host…]/master",
            hint="name the Sentinels and the master, as in redis+sentinel://one:26379,two:26379/shop",
        )
    plain = f"{scheme.removesuffix(_SUFFIX)}://{login}{at}{parts[0].netloc}/{database}"
    return f"{plain}{question}{query}", Sentinels(hosts, unquote(name))


def _ask(host: str, port: int, name: str) -> object:
    reader = hiredis.Reader()
    with socket.create_connection((host, port), timeout=_SECONDS) as sentinel:
        question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
        sentinel.sendall(hiredis.pack_command(question))
        while (reply := reader.gets()) is False:
            received = sentinel.recv(4_096)
            if not received:
                raise ConnectionResetError("closes the connection")
            reader.feed(received)
    return reply

"""Where the online store is: `REDIS_URL`, read here for the runner, Feast and serving alike.

An option that is not carried out is refused by name: whoever reads `?db=2` and passes over it opens
another database than the one that was written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from contract.redis_options import read_options
from contract.redis_sentinel import Sentinels, split_sentinels
from contract.redis_tls import TLS_OPTIONS, RedisTls, read_tls
from contract.serving_errors import ConfigurationError

_PORT = 6379
_SCHEMES = ("redis", "rediss", "unix")
_LOGIN = ("username", "password", "db")


@dataclass(frozen=True)
class RedisAddress:
    """A Redis-protocol server: `redis[s]://[user:password@]host[:port][/db][?option=value]`.

    Attributes
    ----------
    url
        What it was read from; it may hold a password.
    socket
        Path of a Unix socket, of `unix://[user:password@]/path[?db=…]`; `host` and `port` then mean
        nothing.
    tls
        None: plain text.
    sentinels
        Of `redis+sentinel://[user:password@]host[:port][,host…]/master[/db]`; `host` and `port` are
        then the first one's until `resolved`.
    """

    url: str = field(repr=False, compare=False)
    host: str
    port: int
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: RedisTls | None = None
    socket: str | None = None
    sentinels: Sentinels | None = None

    @classmethod
    def from_url(cls, url: str) -> RedisAddress:
        """Return the address that `REDIS_URL` names.

        Raises
        ------
        ConfigurationError
            If it is no address, or has an option that is not carried out.
        """
        plain, sentinels = split_sentinels(url)
        try:
            parts = urlsplit(plain)
            port = _PORT if parts.port is None else parts.port
        except ValueError:  # its text may hold a part of the password
            raise _bad_url() from None
        is_socket = parts.scheme == "unix"
        if parts.scheme not in _SCHEMES or port == 0 or parts.fragment:
            raise _bad_url()
        if bool(parts.hostname) == is_socket or (is_socket and len(parts.path) < len("/s")):
            raise _bad_url()
        options = _options(parts)
        return cls(
            url=url,
            host=parts.hostname or "localhost",
            port=port,
            database=_database(options.get("db") or "0"),
            username=options.get("username") or None,
            password=options.get("password") or None,
            tls=read_tls(options) if parts.scheme == "rediss" else None,
            socket=unquote(parts.path) if is_socket else None,
            sentinels=sentinels,
        )

    def resolved(self) -> RedisAddress:
        """Return the address with the host and port of the master, as the Sentinels say now.

        Raises
        ------
        OnlineStoreUnavailableError
            If no Sentinel says.
        """
        if self.sentinels is None:
            return self
        host, port = self.sentinels.master()
        return replace(self, host=host, port=port)

    @property
    def where(self) -> str:
        """`host:port`, or the path of the socket."""
        return self.socket or f"{self.host}:{self.port}"

    def greeting(self) -> list[tuple[bytes | str, ...]]:
        """Return the commands that open a connection."""
        commands: list[tuple[bytes | str, ...]] = []
        if self.username or self.password:
            commands.append(("AUTH", self.username or "default", self.password or ""))
        if self.database:
            commands.append(("SELECT", str(self.database)))
        return [*commands, ("PING",)]

    def client_options(self) -> dict[str, Any]:
        """Return redis-py's keyword arguments for it, but for `host` and `port`."""
        options: dict[str, Any] = {
            "unix_socket_path": self.socket,
            # redis-py refuses any database for a cluster, even 0.
            "db": self.database or None,
            "username": self.username,
            "password": self.password,
        }
        if self.tls is not None:
            options |= {
                "ssl": True,
                "ssl_ca_certs": self.tls.ca_certs,
                "ssl_certfile": self.tls.certfile,
                "ssl_keyfile": self.tls.keyfile,
                "ssl_cert_reqs": self.tls.cert_reqs,
                "ssl_check_hostname": self.tls.check_hostname,
            }
        return {name: value for name, value in options.items() if value is not None}


def _options(parts: SplitResult) -> dict[str, str]:
    """Return what the parts of a URL and its query say, by the name in the query."""
    found = {"username": unquote(parts.username or ""), "password": unquote(parts.password or "")}
    if parts.scheme != "unix":
        found["db"] = unquote(parts.path.strip("/"))
    said = {name: value for name, value in found.items() if value}
    if parts.scheme == "rediss":
        return read_options(parts.query, (*_LOGIN, *TLS_OPTIONS), said)
    asked = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    for name in TLS_OPTIONS:
        if name in asked:
            raise ConfigurationError(
                f"REDIS_URL: {name} has no meaning for {parts.scheme}://",
                hint="write rediss:// for TLS, or remove the option",
            )
    return read_options(parts.query, _LOGIN, said)


def _database(text: str) -> int:
    if re.fullmatch("[0-9]{1,9}", text) is None:
        raise ConfigurationError(
            "REDIS_URL: the database is not a number",
            hint="write redis://<host>:<port>/<number>, special characters of a password "
            "percent-encoded",
        )
    return int(text)


def _bad_url() -> ConfigurationError:
    return ConfigurationError(
        "REDIS_URL is not of the form redis://[user:password@]host[:port][/db]",
        hint="set REDIS_URL=redis://:<password>@<host>:<port>/0, special characters "
        "percent-encoded; for TLS rediss://…?ssl_ca_certs=/path/to/ca.pem, for a socket "
        "unix:///path/to/redis.sock",
    )

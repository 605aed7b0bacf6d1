"""Where the online store is: `REDIS_URL`, taken apart."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from contract.serving_errors import ConfigurationError

_FALSE = frozenset({"0", "F", "FALSE", "N", "NO"})  # redis.connection.FALSE_STRINGS


@dataclass(frozen=True)
class RedisAddress:
    """A Redis-protocol server: `redis[s]://[user:password@]host[:port][/db][?ssl_ca_certs=…]`."""

    host: str
    port: int
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None

    @classmethod
    def from_url(cls, url: str) -> RedisAddress:
        """Return the address that `REDIS_URL` names."""
        parts = urlsplit(url)
        try:
            database = int(parts.path.strip("/") or 0)
            port = parts.port or 6379
        except ValueError:  # its text may hold a part of the password
            raise _bad_url() from None
        if parts.scheme not in {"redis", "rediss"} or not parts.hostname:
            raise _bad_url()
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        return cls(
            host=parts.hostname,
            port=port,
            database=database,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            tls=_tls(options) if parts.scheme == "rediss" else None,
        )

    @property
    def where(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"

    def greeting(self) -> list[tuple[bytes | str, ...]]:
        """Return the commands that open a connection."""
        commands: list[tuple[bytes | str, ...]] = []
        if self.password is not None:
            commands.append(("AUTH", self.username or "default", self.password))
        if self.database:
            commands.append(("SELECT", str(self.database)))
        return [*commands, ("PING",)]


def _tls(options: dict[str, str]) -> ssl.SSLContext:
    ca = options.get("ssl_ca_certs")
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as err:
        raise ConfigurationError(
            f"REDIS_URL: ssl_ca_certs={ca} cannot be read", hint="name a PEM file"
        ) from err
    if options.get("ssl_check_hostname", "").upper() in _FALSE:
        context.check_hostname = False
    return context


def _bad_url() -> ConfigurationError:
    return ConfigurationError(
        "REDIS_URL is not of the form redis://[user:password@]host[:port][/db]",
        hint="for TLS write rediss://…?ssl_ca_certs=/path/to/ca.pem",
    )

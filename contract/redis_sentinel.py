"""Redis Sentinel: several processes that watch a Redis and say which server is its master."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import hiredis

from contract.redis_options import read_flag, read_options
from contract.redis_tls import TLS_OPTIONS, RedisTls, read_tls
from contract.serving_errors import ConfigurationError, OnlineStoreUnavailableError

_PORT = 26_379
_SECONDS = 1.0
_SUFFIX = "+sentinel"
_PREFIX = "sentinel_"
_OPTIONS = ("username", "password", "ssl", *TLS_OPTIONS)


@dataclass(frozen=True)
class Sentinels:
    """Where the Sentinels listen, their name for the master, and their login and TLS.

    Attributes
    ----------
    username, password
        Of the Sentinels themselves, which need not be the master's.
    tls
        None: plain text.
    """

    hosts: tuple[tuple[str, int], ...]
    name: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: RedisTls | None = None

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
                reply = self._ask(host, port)
            except (OSError, hiredis.ProtocolError, ConfigurationError) as err:
                # Of a certificate that is refused, of a connection that fails, of anything else.
                told = getattr(err, "verify_message", None) or getattr(err, "strerror", None)
                reply = told or err
            if isinstance(reply, list):
                return reply[0].decode(), int(reply[1])
            reasons.append(f"{host}:{port}: {reply or 'knows no such master'}")
        raise OnlineStoreUnavailableError(
            f"no Sentinel says where the master {self.name} is ({'; '.join(reasons)})",
            hint="check REDIS_URL=redis+sentinel://<host>:26379,<host>:26379/<master>; for a login "
            "and TLS of the Sentinels themselves add ?sentinel_password=…&sentinel_ssl=true",
        )

    def _ask(self, host: str, port: int) -> object:
        """Return a Sentinel's answer: the master's host and port, None, or an error."""
        commands: list[tuple[str, ...]] = [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)]
        if self.username or self.password:
            commands.insert(0, ("AUTH", self.username or "default", self.password or ""))
        with socket.create_connection((host, port), timeout=_SECONDS) as plain:
            if self.tls is None:
                return _last_reply(plain, commands)
            with self.tls.context().wrap_socket(plain, server_hostname=host) as encrypted:
                return _last_reply(encrypted, commands)


def split_sentinels(url: str) -> tuple[str, Sentinels | None]:
    """Return the URL of a plain server, and the Sentinels that say where it is now, if any.

    `redis+sentinel://user:password@one:26379,two:26379/shop/0` is `redis://user:password@one:26379/0`
    at the master `shop`. Options that begin with `sentinel_` are the Sentinels' own.

    Raises
    ------
    ConfigurationError
        If the Sentinels, the master's name or a `sentinel_` option is missing or wrong.
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
    options = query.split("&") if query else []
    own = [option for option in options if option.startswith(_PREFIX)]
    rest = "&".join(option for option in options if option not in own)
    plain = f"{scheme.removesuffix(_SUFFIX)}://{login}{at}{parts[0].netloc}/{database}"
    return f"{plain}{question}{rest}", _sentinels(hosts, unquote(name), "&".join(own))


def _sentinels(hosts: tuple[tuple[str, int], ...], name: str, query: str) -> Sentinels:
    said = read_options(query, [f"{_PREFIX}{option}" for option in _OPTIONS])
    options = {option.removeprefix(_PREFIX): value for option, value in said.items()}
    tls = None
    if read_flag(options, "ssl", _PREFIX, default=False):
        tls = read_tls(options, _PREFIX)
    elif without_meaning := [option for option in TLS_OPTIONS if option in options]:
        raise ConfigurationError(
            f"REDIS_URL: {_PREFIX}{without_meaning[0]} has no meaning without {_PREFIX}ssl=true",
            hint=f"add {_PREFIX}ssl=true, or remove the option",
        )
    login = (options.get("username") or None, options.get("password") or None)
    return Sentinels(hosts, name, *login, tls)


def _last_reply(sentinel: socket.socket, commands: list[tuple[str, ...]]) -> object:
    """Return the reply to the last command, or the first error."""
    reader = hiredis.Reader()
    sentinel.sendall(b"".join(hiredis.pack_command(command) for command in commands))
    for _ in commands:
        while (reply := reader.gets()) is False:
            received = sentinel.recv(4_096)
            if not received:
                raise ConnectionResetError("closes the connection")
            reader.feed(received)
        if isinstance(reply, hiredis.ReplyError):
            break
    return reply

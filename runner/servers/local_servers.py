"""The local PostgreSQL and Redis: start what does not answer, stop what was started, look.

Whatever answers at the configured address is used as it is. Otherwise servers from wheels start
there, on loopback only, with their data under `data/embedded/` of the project.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from runner.errors import RunnerError
from runner.servers import postgres_server, redis_login, redis_server
from runner.settings import Settings


@dataclass(frozen=True)
class ServerStatus:
    """One server as it is now.

    Attributes
    ----------
    name
        `PostgreSQL` or `Redis`.
    address
        host:port.
    state
        `unusable`: something listens there but we cannot work with it; see `problem`.
    version
        Such as `18.6` or `Valkey 9.1.2`; empty unless running.
    embedded
        Whether it is the project's own, which `runner down` stops.
    pid
        Process id of the project's own server, else None.
    data
        The folder of the project's own server.
    other_project
        The folder of another project whose `runner up` started it; None if not known to be so.
    changed
        Whether this call started or stopped it.
    problem, hint
        What is wrong and what to do; empty unless unusable.
    """

    name: Literal["PostgreSQL", "Redis"]
    address: str
    state: Literal["running", "stopped", "unusable"]
    version: str = ""
    embedded: bool = False
    pid: int | None = None
    data: Path | None = None
    other_project: Path | None = None
    changed: bool = False
    problem: str = ""
    hint: str = ""


@dataclass(frozen=True)
class _Server:
    """What `up`, `down` and `status` need to know of one of the two."""

    name: Literal["PostgreSQL", "Redis"]
    host: str
    where: str
    variables: str
    login: str
    data: Path
    check: Callable[[], str | None]
    start: Callable[[], object]
    stop: Callable[[Path], bool]
    pid: Callable[[], int | None]
    told_data: Callable[[], Path | None]

    def status(
        self, state: Literal["running", "stopped"], version: str = "", *, changed: bool = False
    ) -> ServerStatus:
        pid = self.pid()
        return ServerStatus(
            name=self.name,
            address=self.where,
            state=state,
            version=version,
            embedded=pid is not None,
            pid=pid,
            data=self.data if pid is not None else None,
            other_project=self._other_project() if version and pid is None else None,
            changed=changed,
        )

    def _other_project(self) -> Path | None:
        """Return the project whose server it is, by the folder that the server works in."""
        told, below_root = self.told_data(), self.data.parts[-3:]
        if told is None or told.parts[-3:] != below_root or told == self.data.resolve():
            return None
        return told.parents[2]


def up(
    settings: Settings, *, postgres_options: Mapping[str, str] = postgres_server.OPTIONS
) -> list[ServerStatus]:
    """Return the state of PostgreSQL and Redis after starting what did not answer.

    A missing database is created. Calling it again, or twice at once, changes nothing.

    Raises
    ------
    RunnerError
        If a stranger has the port, the login is refused, the address is not on this machine, or
        a server does not start. Nothing is started when either address is unusable.
    """
    with _lock(settings):
        servers = _servers(settings, postgres_options, create=True)
        versions = [server.check() for server in servers]
        for server, version in zip(servers, versions, strict=True):
            if version is None:
                _refuse_distant(server)
        return [
            _started(server, version) for server, version in zip(servers, versions, strict=True)
        ]


def down(settings: Settings) -> list[ServerStatus]:
    """Return the state after stopping the project's own servers; others are left alone."""
    with _lock(settings):
        servers = _servers(settings)
        stopped = [server.stop(server.data) for server in servers]
        return [_look(server, changed=was) for server, was in zip(servers, stopped, strict=True)]


def status(settings: Settings) -> list[ServerStatus]:
    """Return the state of PostgreSQL and Redis; never raises for a server that is not well."""
    return [_look(server) for server in _servers(settings)]


def require_servers(settings: Settings, names: Collection[str] = ("PostgreSQL", "Redis")) -> None:
    """Raise RunnerError unless the servers in `names` all answer and let us log in.

    The cloud target's servers are not ours to start: there each tool says what does not answer.
    """
    if settings.target == "cloud":
        return
    for server in _servers(settings):
        if server.name in names and server.check() is None:
            raise RunnerError(
                f"{server.name} does not answer at {server.where}",
                hint=f"run `runner up` to start it, or set {server.variables} to one that runs",
            )


def _servers(
    settings: Settings,
    postgres_options: Mapping[str, str] = postgres_server.OPTIONS,
    *,
    create: bool = False,
) -> list[_Server]:
    folder = settings.root / "data" / "embedded"
    postgres, redis = settings.postgres, settings.redis
    return [
        _Server(
            name="PostgreSQL",
            host=postgres.host,
            where=f"{postgres.host}:{postgres.port}",
            variables="PGHOST and PGPORT",
            login="PGUSER and PGPASSWORD",
            data=folder / "postgres",
            check=lambda: postgres_server.check(postgres, create=create),
            start=lambda: postgres_server.start(
                postgres, folder / "postgres", options=postgres_options
            ),
            stop=postgres_server.stop,
            pid=lambda: postgres_server.pid_at(postgres, folder / "postgres"),
            told_data=lambda: postgres_server.told_data(postgres),
        ),
        _Server(
            name="Redis",
            host=redis.host,
            where=redis.where,
            variables="REDIS_URL",
            login="the user and password in REDIS_URL",
            data=folder / "redis",
            check=lambda: redis_server.check(redis),
            start=lambda: redis_server.start(redis, folder / "redis"),
            stop=redis_server.stop,
            pid=lambda: redis_server.pid_at(redis, folder / "redis"),
            told_data=lambda: redis_login.told_data(redis),
        ),
    ]


def _started(server: _Server, version: str | None) -> ServerStatus:
    if version is not None:
        return server.status("running", version)
    server.start()
    try:
        return server.status("running", server.check() or "", changed=True)
    except RunnerError as err:
        server.stop(server.data)
        raise RunnerError(
            f"{err.message} (the server that `runner up` made in {server.data})",
            hint=f"set {server.login} as they were when it was made, or move {server.data} away "
            "to begin with an empty one; then `runner up`",
        ) from err


def _look(server: _Server, *, changed: bool = False) -> ServerStatus:
    try:
        version = server.check()
    except RunnerError as err:
        return ServerStatus(
            name=server.name,
            address=server.where,
            state="unusable",
            changed=changed,
            problem=err.message,
            hint=err.hint,
        )
    if version is None:
        return server.status("stopped", changed=changed)
    return server.status("running", version, changed=changed)


def _refuse_distant(server: _Server) -> None:
    """Raise RunnerError unless the server's host is this machine: nothing starts elsewhere."""
    try:
        loopback = server.host == "localhost" or ip_address(server.host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise RunnerError(
            f"{server.name} does not answer at {server.where}",
            hint=f"start it there or correct {server.variables}; with host 127.0.0.1 `runner up` "
            "starts one here",
        )


@contextmanager
def _lock(settings: Settings) -> Iterator[None]:
    """Let one `up` or `down` of this project work at a time."""
    folder = settings.root / "data" / "embedded"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("w")
    except (PermissionError, FileExistsError, NotADirectoryError) as err:
        raise RunnerError(
            f"{err.filename}: {err.strerror}; the local servers keep their data there",
            hint="give yourself the folder (`chown`), or move it away; then `runner up`",
        ) from err
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

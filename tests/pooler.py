"""A PgBouncer in front of a PostgreSQL: it refuses or drops start-up options, as poolers do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg

from runner.settings import PostgresAddress
from tests.conftest import free_port
from tests.emulators.processes import running

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")

_INI = """
[databases]
* = host={server.host} port={server.port} user={server.user} password={server.password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = any
pool_mode = transaction
unix_socket_dir =
{more}
"""


@contextmanager
def pooler(server: PostgresAddress, folder: Path, more: str = "") -> Iterator[PostgresAddress]:
    """Give the address of a transaction pooler with `more` in its settings."""
    assert PROGRAM, "pgbouncer is missing: apt-get install pgbouncer"
    address = replace(server, port=free_port())
    ini = folder / "pgbouncer.ini"
    ini.write_text(_INI.format(server=server, port=address.port, more=more))
    account = ["-u", "nobody"] if os.geteuid() == 0 else []  # it does not run as root
    with running([PROGRAM, *account, ini], folder, lambda: _answers(address)):
        yield address


def _answers(address: PostgresAddress) -> bool:
    try:
        psycopg.connect(**address.conninfo, connect_timeout=5).close()  # type: ignore[arg-type]
    except psycopg.OperationalError:
        return False
    return True

"""One `dbt build` at a time: two that build the same tables break each other.

dbt makes each table beside the present one, as `<table>__dbt_tmp`, and swaps them: a second dbt
finds the other's half-made tables. So a build holds

- the project's folder, by a lock that dbt inherits: it is free only when dbt has ended too, even
  where the runner was killed. Two builds of one folder also share `target/`;
- on PostgreSQL, a lock in the database, by the schemas' prefix: it keeps off builds from other
  folders and machines.

A bare `dbt build` holds neither: dbt closes each connection after use. On PostgreSQL it waits for a
runner that builds already, before it looks at the tables (the macro `wait_for_runner`). A runner
that comes later may meet it: `dbt_messages.TWO_WRITERS` recognizes the errors that this causes, and
`wait_for_other_dbt` waits until it has ended.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from runner import console
from runner.settings import Settings

_POLL_SECONDS = 0.5
_LONGEST_SECONDS = 600
_QUIET_LOOKS = 4  # between two dbt models a dbt has no session
_LONGEST_NAME = 63  # bytes of an `application_name`
# The session of a dbt process that waits for work is idle. One that waits for us holds nothing.
_OTHER_DBT = """
select exists (
    select from pg_stat_activity
    where datname = current_database() and application_name = 'dbt'
    and wait_event is distinct from 'advisory'
    and (state <> 'idle' or state_change > clock_timestamp() - interval '5 seconds')
)
"""


@contextmanager
def build_lock(settings: Settings) -> Iterator[int]:
    """Wait until nobody else builds, and hold others off; yield the file that dbt is to inherit."""
    folder = os.open(settings.root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _note_wait(f"in {settings.root}")
            fcntl.flock(folder, fcntl.LOCK_EX)
        if settings.target == "cloud":
            yield folder
        else:
            with _database_lock(settings):
                yield folder
    finally:
        os.close(folder)


@contextmanager
def _database_lock(settings: Settings) -> Iterator[None]:
    import psycopg

    prefix = settings.env.get("DBT_SCHEMA_PREFIX", "")
    digest = hashlib.sha256(f"dbt build {prefix}".encode()).digest()
    key = (int.from_bytes(digest[:8], signed=True),)
    # A bare dbt that waits says this name.
    name = f"runner {os.getpid()} on {socket.gethostname()}"[:_LONGEST_NAME]
    connection = psycopg.connect(**settings.postgres.conninfo, application_name=name)  # type: ignore[arg-type]
    try:
        # A lock of the transaction: one of the session stays behind in a pooler.
        for timeout in ("lock", "statement", "idle_in_transaction_session"):
            connection.execute(f"set local {timeout}_timeout = 0")
        row = connection.execute("select pg_try_advisory_xact_lock(%s)", key).fetchone()
        if row != (True,):
            _note_wait(f"from another folder in database {settings.postgres.database}")
            connection.execute("select pg_advisory_xact_lock(%s)", key)
        yield
    finally:
        connection.close()


def wait_for_other_dbt(settings: Settings) -> None:
    """Wait until no dbt is at work in the database, at most ten minutes: our own has ended.

    A dbt that builds other tables counts too, and so does the session of one that lost its
    network. After ten minutes the caller builds again and gets dbt's own error.
    """
    import psycopg

    console.note(
        "another dbt is at work in the database: waiting until it has ended, at most 10 minutes, "
        "then building again"
    )
    with psycopg.connect(**settings.postgres.conninfo, autocommit=True) as connection:  # type: ignore[arg-type]
        until, quiet = time.monotonic() + _LONGEST_SECONDS, 0
        while quiet < _QUIET_LOOKS and time.monotonic() < until:
            is_at_work = connection.execute(_OTHER_DBT).fetchone() == (True,)
            quiet = 0 if is_at_work else quiet + 1
            time.sleep(_POLL_SECONDS)


def _note_wait(where: str) -> None:
    console.note(f"another runner builds dbt models {where}: waiting until it has ended")

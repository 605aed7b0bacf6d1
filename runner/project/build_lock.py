"""One `dbt build` at a time: two that build the same tables break each other.

dbt makes each table beside the present one, as `<table>__dbt_tmp`, and swaps them: a second dbt
finds the other's half-made tables. So a build holds

- the project's folder, by a lock that dbt inherits: it is free only when dbt has ended too, even
  where the runner was killed. Two builds of one folder also share `target/`;
- on PostgreSQL, a lock in the database, by the schemas' prefix: it keeps off builds from other
  folders and machines.

A bare `dbt build` holds neither: dbt closes each connection after use. On PostgreSQL a bare dbt
that starts during a build waits (macro `wait_for_runner`). A runner that starts later looks for
sessions with the application_name of profiles.yml, and waits for them. Between two dbt models dbt
has no session, so the two may still meet: `dbt_messages.TWO_WRITERS` recognizes the errors that
this causes, and `wait_for_other_dbt` waits.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runner import console
from runner.settings import Settings

if TYPE_CHECKING:
    import psycopg

_POLL_SECONDS = 0.5
_LONGEST_SECONDS = 600
_QUIET_LOOKS = 4  # between two dbt models a dbt has no session
_LONGEST_NAME = 63  # bytes of an `application_name`
_FRESH_SECONDS = 5  # for so long an idle session is between two statements
# A session that has been idle for longer, in a transaction or not, may be stuck. One that waits for
# us holds nothing.
_AT_WORK = """
select exists (
    select from pg_stat_activity
    where datname = current_database()
    and (application_name = %(name)s or %(any)s and application_name like 'dbt%%')
    and wait_event is distinct from 'advisory'
    and (
        state = 'active'
        or state_change > clock_timestamp() - make_interval(secs => %(fresh)s)
    )
)
"""


@contextmanager
def build_lock(settings: Settings) -> Iterator[int]:
    """Wait until nobody else builds, and hold others off; yield the file that dbt is to inherit."""
    with folder_lock(settings) as folder:
        if settings.target == "cloud":
            yield folder
        else:
            with _database_lock(settings):
                yield folder


@contextmanager
def folder_lock(settings: Settings) -> Iterator[int]:
    """Hold this folder alone, for a dbt that writes `target/` but no table; yield its file.

    Not within `build_lock`: it would wait for itself.
    """
    folder = os.open(settings.root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _note_wait("another runner", f"in {settings.root}")
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(folder)


@contextmanager
def _database_lock(settings: Settings) -> Iterator[None]:
    import psycopg

    prefix = settings.env.get("DBT_SCHEMA_PREFIX", "")
    digest = hashlib.sha256(f"dbt build {prefix}".encode()).digest()
    key = (int.from_bytes(digest[:8], signed=True),)
    # A waiting dbt prints this name.
    name = f"runner {os.getpid()} on {socket.gethostname()}"[:_LONGEST_NAME]
    connection = psycopg.connect(**settings.postgres.conninfo, application_name=name)  # type: ignore[arg-type]
    try:
        # A lock of the transaction: one of the session stays behind in a pooler.
        for timeout in ("lock", "statement", "idle_in_transaction_session"):
            connection.execute(f"set local {timeout}_timeout = 0")
        row = connection.execute("select pg_try_advisory_xact_lock(%s)", key).fetchone()
        looks = 1
        if row != (True,):
            _note_wait("another runner or dbt", f"in database {settings.postgres.database}")
            connection.execute("select pg_advisory_xact_lock(%s)", key)
            looks = _QUIET_LOOKS  # a bare dbt that held the lock is about to make its tables
        _wait_for_earlier_dbt(settings, f"dbt_of_runner_{prefix}"[:_LONGEST_NAME], looks)
        yield
    finally:
        connection.close()


def wait_for_other_dbt(settings: Settings) -> None:
    """Wait until no dbt is at work in the database, at most ten minutes: our own has ended.

    A dbt that builds other tables counts too, and so does the session of one that lost its
    network. After ten minutes the caller builds again and gets dbt's own error.
    """
    console.note(
        "another dbt is at work in the database: waiting until it has ended, at most 10 minutes, "
        "then building again"
    )
    with _looking(settings) as connection:
        _wait_until_quiet(connection, {"name": "dbt", "any": True})


def _wait_for_earlier_dbt(settings: Settings, name: str, looks: int) -> None:
    """Look `looks` times for a dbt that builds the same tables already; wait until it has ended."""
    own: Mapping[str, str | bool] = {"name": name, "any": False}
    with _looking(settings) as connection:
        for look in range(looks):
            if look:
                time.sleep(_POLL_SECONDS)
            if _is_at_work(connection, own):
                console.note(
                    "a dbt of the same tables is at work: waiting until it has ended, "
                    "at most 10 minutes"
                )
                _wait_until_quiet(connection, own)
                return


def _looking(settings: Settings) -> psycopg.Connection:
    """Connect so that each look is a transaction: in a longer one sessions stay as first seen."""
    import psycopg

    return psycopg.connect(**settings.postgres.conninfo, autocommit=True)  # type: ignore[arg-type]


def _wait_until_quiet(connection: psycopg.Connection, which: Mapping[str, str | bool]) -> None:
    until, quiet = time.monotonic() + _LONGEST_SECONDS, 0
    while quiet < _QUIET_LOOKS and time.monotonic() < until:
        quiet = 0 if _is_at_work(connection, which) else quiet + 1
        time.sleep(_POLL_SECONDS)


def _is_at_work(connection: psycopg.Connection, which: Mapping[str, str | bool]) -> bool:
    given = {**which, "fresh": _FRESH_SECONDS}
    return connection.execute(_AT_WORK, given).fetchone() == (True,)


def _note_wait(who: str, where: str) -> None:
    console.note(f"{who} builds dbt models {where}: waiting until it has ended")

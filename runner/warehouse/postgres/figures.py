"""The table of what `runner monitor` found, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import make_conninfo

from runner.errors import RunnerError
from runner.settings import PostgresAddress
from runner.sql import quote, quote_table
from runner.warehouse.figures_table import COLUMNS, SCHEMA, TABLE, FiguredDays, FigureRow
from runner.warehouse.postgres.session_settings import READ_WRITE, settings_sql

_TYPES = {"text": "text", "date": "date", "float": "double precision", "bigint": "bigint"}
_NAME = quote_table(SCHEMA, TABLE)


class PostgresFigures:
    """See `FiguresStore`."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def replace(self, days: FiguredDays, rows: Sequence[FigureRow]) -> None:
        """See `FiguresStore`."""
        names = ", ".join(map(quote, COLUMNS))
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute(READ_WRITE)
            cursor.execute(settings_sql())
            self._create(cursor)
            cursor.execute(f"lock table {_NAME} in share row exclusive mode")
            cursor.execute(
                f"delete from {_NAME} where model_name = %s and model_version = %s "
                "and day between %s and %s",
                [days.model, days.version, days.first, days.last],
            )
            with cursor.copy(f"copy {_NAME} ({names}) from stdin") as copy:
                for row in rows:
                    copy.write_row((days.model, days.version, *row))

    def _create(self, cursor: psycopg.Cursor) -> None:
        # Looked for first: to create what exists needs the permission to create.
        if cursor.execute("select to_regclass(%s)", [_NAME]).fetchone() != (None,):
            return
        if cursor.execute("select to_regnamespace(%s)", [SCHEMA]).fetchone() == (None,):
            cursor.execute(f"create schema {quote(SCHEMA)}")
        declared = ", ".join(f"{quote(name)} {_TYPES[kind]}" for name, kind in COLUMNS.items())
        cursor.execute(
            f"create table {_NAME} ({declared}, written_at timestamptz not null default now())"
        )


@contextmanager
def open_postgres_figures(address: PostgresAddress) -> Iterator[PostgresFigures]:
    """Open the table in PostgreSQL."""
    conninfo = make_conninfo("", **address.conninfo, application_name="runner")
    try:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            yield PostgresFigures(connection)
    except (psycopg.ProgrammingError, psycopg.NotSupportedError) as err:
        raise RunnerError(
            f"PostgreSQL, {SCHEMA}.{TABLE}: {' '.join(str(err).split())}",
            hint=f"grant {address.user} the right to create and write tables in {SCHEMA}",
        ) from err

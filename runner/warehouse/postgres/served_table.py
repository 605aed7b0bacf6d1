"""The table of predictions in PostgreSQL, read only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import make_conninfo

from runner.errors import RunnerError
from runner.settings import PostgresAddress
from runner.sql import quote_table
from runner.warehouse.log_sql import Cell, NoTableError, PostgresLogSql, no_column
from runner.warehouse.postgres.session_settings import READ_ONLY, settings_sql


class PostgresLogReader:
    """See `LogReader`."""

    def __init__(self, connection: psycopg.Connection, table: str) -> None:
        self._connection = connection
        self.sql = PostgresLogSql(table)

    def rows(self, query: str) -> Sequence[Sequence[Cell]]:
        """See `LogReader`."""
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute(READ_ONLY)
            cursor.execute(settings_sql())
            try:
                return cursor.execute(query.encode()).fetchall()
            except psycopg.errors.UndefinedTable as err:
                raise NoTableError(str(err).partition("\n")[0]) from err
            except psycopg.errors.UndefinedColumn as err:
                raise no_column(str(err).partition("\n")[0]) from err


@contextmanager
def open_postgres_log(
    address: PostgresAddress, schema: str, table: str
) -> Iterator[PostgresLogReader]:
    """Open the table in PostgreSQL."""
    conninfo = make_conninfo("", **address.conninfo, application_name="runner")
    try:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            yield PostgresLogReader(connection, quote_table(schema, table))
    except (psycopg.ProgrammingError, psycopg.NotSupportedError, psycopg.DataError) as err:
        raise RunnerError(
            f"PostgreSQL, {schema}.{table}: {' '.join(str(err).split())}",
            hint=f"grant {address.user} the right to read {schema}.{table}; rename a table of this "
            "name if it is not one that `runner collect` created",
        ) from err

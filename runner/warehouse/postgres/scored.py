"""Predictions in PostgreSQL: a partition per day, written by COPY in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from functools import partial
from typing import Any

import pyarrow as pa
from adbc_driver_manager import Error as AdbcError
from adbc_driver_postgresql import dbapi
from psycopg.conninfo import make_conninfo

from runner.errors import RunnerError
from runner.settings import PostgresAddress
from runner.sql import quote, quote_table, text_postgres
from runner.warehouse.postgres.session_settings import READ_WRITE, settings_sql
from runner.warehouse.prefetch import in_thread
from runner.warehouse.scored_table import DAY, MODEL, VERSION, ScoredBy, require_columns

_TYPES = {
    pa.int64(): "bigint",
    pa.int32(): "integer",
    pa.float64(): "double precision",
    pa.float32(): "real",
    pa.string(): "text",
    pa.bool_(): "boolean",
    pa.date32(): "date",
}
_LONGEST_NAME = 63 - len("_20261231")
_COLUMNS = """
select attname::text as name, format_type(atttypid, null) as type from pg_attribute
where attrelid = to_regclass({table}) and attnum > 0 and not attisdropped
"""
_PARTITIONED = """
select relkind = 'p' and pg_get_partkeydef(oid) = 'LIST ({day})' as is_ours from pg_class
where oid = to_regclass({table})
"""


class PostgresScored:
    """The rows of one model version and day; the transaction is open until `commit`."""

    def __init__(self, connection: dbapi.Connection, table: tuple[str, str]) -> None:
        self._connection = connection
        self._schema, self._table = table
        self._name = quote_table(*table)

    def replace(self, columns: pa.Schema, by: ScoredBy) -> None:
        """Make the table if it is not there, and delete what the version wrote that day."""
        types = {field.name: _type(field) for field in columns}
        there = {row["name"]: row["type"] for row in self._rows(_COLUMNS)}
        if there:
            require_columns(f"{self._schema}.{self._table}", there, types)
        else:
            self._create(types)
        # Readers go on; another run for the same day waits, and then replaces this one's rows.
        self._run(f"lock table {self._name} in share row exclusive mode")
        self._create_partition(by.at.date())
        same = {MODEL: by.model, VERSION: by.version, DAY: by.at.date().isoformat()}
        where = " and ".join(f"{quote(n)} = {text_postgres(v)}" for n, v in same.items())
        self._run(f"delete from {self._name} where {where}")

    def write(self, rows: pa.Table) -> None:
        """Append rows."""
        with self._connection.cursor() as cursor:
            ingest = partial(
                cursor.adbc_ingest,
                *(self._table, rows),
                mode="append",
                db_schema_name=self._schema,
            )
            in_thread(ingest, cursor.adbc_cancel)

    def commit(self) -> None:
        """Make the rows visible."""
        self._connection.commit()

    def begin(self) -> None:
        """Begin the transaction."""
        for statement in (READ_WRITE, settings_sql(client_connection_check_interval="2s")):
            self._run(statement)

    def _create(self, types: dict[str, str]) -> None:
        found = self._rows("select 1 as found where to_regnamespace({schema}) is not null")
        if not found:  # looked for first: to create what exists needs the permission to create
            self._run(f"create schema if not exists {quote(self._schema)}")
        declared = ", ".join(f"{quote(name)} {kind}" for name, kind in types.items())
        self._run(
            f"create table if not exists {self._name} ({declared}) partition by list ({quote(DAY)})"
        )

    def _create_partition(self, day: date) -> None:
        if not any(row["is_ours"] for row in self._rows(_PARTITIONED)):
            return  # somebody else's table: its rows are wherever it puts them
        name = quote_table(self._schema, f"{self._table[:_LONGEST_NAME]}_{day:%Y%m%d}")
        if self._rows(f"select 1 as found where to_regclass({text_postgres(name)}) is not null"):
            return
        # To attach a partition keeps no reader waiting; `create table … partition of` would, and
        # the transaction stays open until all is scored.
        parts = "including all excluding identity excluding indexes excluding statistics"
        self._run(f"create table {name} (like {self._name} {parts})")
        self._run(
            f"alter table {self._name} attach partition {name} "
            f"for values in ({text_postgres(day.isoformat())})"
        )

    def _rows(self, sql: str) -> Sequence[dict[str, Any]]:
        known = {
            "table": text_postgres(self._name),
            "schema": text_postgres(quote(self._schema)),
            "day": DAY,
        }
        with self._connection.cursor() as cursor:
            return in_thread(
                lambda: _fetched(cursor, sql.format(**known)).to_pylist(), cursor.adbc_cancel
            )

    def _run(self, sql: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})
            in_thread(partial(cursor.execute, sql), cursor.adbc_cancel)


def _fetched(cursor: dbapi.Cursor, sql: str) -> pa.Table:
    cursor.execute(sql)
    return cursor.fetch_arrow_table()


def _type(field: pa.Field) -> str:
    if pa.types.is_timestamp(field.type):
        return "timestamp with time zone"
    if pa.types.is_decimal(field.type):
        return "numeric"
    return _TYPES[field.type]


@contextmanager
def open_postgres_scored(
    address: PostgresAddress, table: tuple[str, str], columns: pa.Schema, by: ScoredBy
) -> Iterator[PostgresScored]:
    """Replace what a version wrote that day by what is written; nothing if it fails."""
    conninfo = make_conninfo("", **address.conninfo, application_name="runner")
    try:
        with dbapi.connect(conninfo) as connection:
            scored = PostgresScored(connection, table)
            scored.begin()
            scored.replace(columns, by)
            yield scored
            scored.commit()
    except AdbcError as err:
        raise RunnerError(
            f"PostgreSQL, {'.'.join(table)}: {' '.join(str(err).partition('Query')[0].split())}",
            hint=f"grant {address.user} the right to create and write tables in {table[0]}, or "
            "name another table with --to",
        ) from err

"""A raw table that `runner collect` fills, in PostgreSQL: rows by COPY, each once by its key.

A partition per day, if the day's column is a part of the key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import psycopg
from psycopg.conninfo import conninfo_to_dict

from contract.event_format import COLLECTED_AT
from runner.errors import RunnerError
from runner.sql import quote, quote_table, text_postgres
from runner.warehouse.collected_table import CollectedColumn, CollectedRow, CollectedTable
from runner.warehouse.postgres.session_settings import READ_WRITE, settings_sql

_TYPES = {
    "text": "text",
    "bigint": "bigint",
    "integer": "integer",
    "float": "double precision",
    "bool": "boolean",
    "timestamp": "timestamptz",
    "date": "date",
    "numeric": "numeric",
    "json": "jsonb",
}


class PostgresCollected:
    """The table; each method is one transaction."""

    rows_at_once = 10_000

    def __init__(self, connection: psycopg.Connection, schema: str, table: CollectedTable) -> None:
        self._connection = connection
        self._schema = schema
        self._table = table
        self._name = quote_table(schema, table.name)

    def create(self) -> None:
        """Make the table unless it is there; add columns that it lacks."""
        with self._transaction():
            self._create()

    def append(self, rows: Sequence[CollectedRow]) -> int:
        """Write the rows that are not there yet; return how many those were."""
        names = ", ".join(quote(column.name) for column in self._table.columns)
        key = ", ".join(map(quote, self._table.key))
        with self._transaction() as cursor:
            if not self._is_partitioned:
                self._wait_for_others(cursor)
            self._create()
            if self._is_partitioned:
                position = self._table.position(self._table.day)
                for day in sorted({_day(row[position]) for row in rows}):
                    self._create_partition(day)
            cursor.execute(
                f"create temp table arriving on commit drop as select {names} from {self._name} "
                "with no data"
            )
            with cursor.copy(f"copy arriving ({names}) from stdin") as copy:
                for row in rows:
                    copy.write_row(row)
            into, values = names, names
            if not self._is_partitioned and COLLECTED_AT in self._known():
                into, values = f"{names}, {COLLECTED_AT}", f"{names}, {self._later()}"
            cursor.execute(
                f"insert into {self._name} ({into}) select {values} from pg_temp.arriving "
                f"on conflict ({key}) do nothing"
            )
            return cursor.rowcount

    def delete_before(self, day: date) -> int:
        """Drop the partitions of the days before; return how many rows they had."""
        deleted = 0
        with self._transaction() as cursor:
            for partition, of_day in self._partitions():
                if of_day < day:
                    name = quote_table(self._schema, partition)
                    counted = cursor.execute(f"select count(*) from {name}").fetchone()
                    deleted += counted[0] if counted else 0
                    cursor.execute(f"drop table {name}")
        return deleted

    def delete_where(self, column: str, name: str, values: Sequence[str]) -> int:
        """Delete the rows whose JSON `column` has one of `values` as `name`; return how many."""
        with self._transaction() as cursor:
            if not self._exists(self._table.name):
                return 0
            cursor.execute(
                f"delete from {self._name} where {quote(column)} ->> %s = any(%s)",
                [name, list(values)],
            )
            return cursor.rowcount

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Cursor]:
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute(READ_WRITE)
            cursor.execute(settings_sql())
            yield cursor

    @property
    def _is_partitioned(self) -> bool:
        return self._table.day in self._table.key

    def _later(self) -> str:
        """Return the SQL for now, or just after the last row's if the server's clock was set back.

        Builds find what is new by it.
        """
        last = f"select max({COLLECTED_AT}) + interval '1 microsecond' from {self._name}"
        return f"greatest(now(), ({last}))"

    def _wait_for_others(self, cursor: psycopg.Cursor) -> None:
        """Append one after the other, so that `collected_at` rises in the order of commits.

        Builds find what is new by it, and Feast's clients hold no lease.
        """
        cursor.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [self._name])

    def _create(self) -> None:
        if self._exists(self._table.name):
            self._add_missing_columns()
            return
        # Looked for first: to create what exists needs the permission to create.
        found = self._connection.execute("select to_regnamespace(%s)", [quote(self._schema)])
        if found.fetchone() == (None,):
            self._connection.execute(f"create schema {quote(self._schema)}")
        declared = ", ".join(_declared(column) for column in self._table.columns)
        key = ", ".join(map(quote, self._table.key))
        partitions = f" partition by range ({quote(self._table.day)})"
        self._connection.execute(
            f"create table {self._name} ({declared}, "
            f"{COLLECTED_AT} timestamptz not null default now(), primary key ({key}))"
            + (partitions if self._is_partitioned else "")
        )
        if not self._is_partitioned:  # what is new is looked for by it
            self._connection.execute(f"create index on {self._name} ({COLLECTED_AT})")

    def _add_missing_columns(self) -> None:
        """Add columns and allow nulls as now declared; leave a table that others created."""
        known = self._known()
        if COLLECTED_AT not in known:
            return
        for column in self._table.columns:
            name = quote(column.name)
            if column.name not in known:
                declared = f"{name} {_TYPES[column.type]}"
                self._connection.execute(f"alter table {self._name} add column {declared}")
            elif known[column.name] and not column.required:
                alter = f"alter table {self._name} alter column {name} drop not null"
                self._connection.execute(alter)

    def _known(self) -> dict[str, bool]:
        """Return the table's columns, and whether each must not be null."""
        found = self._connection.execute(
            "select attname, attnotnull from pg_attribute where attrelid = to_regclass(%s) "
            "and attnum > 0 and not attisdropped",
            [self._name],
        )
        return {name: bool(required) for name, required in found}

    def _create_partition(self, day: date) -> None:
        partition = f"{self._table.name}_{day:%Y%m%d}"
        if self._exists(partition):
            return
        begin, end = (text_postgres(f"{at} 00:00+00") for at in (day, day + timedelta(days=1)))
        self._connection.execute(
            f"create table {quote_table(self._schema, partition)} partition of {self._name} "
            f"for values from ({begin}) to ({end})"
        )

    def _exists(self, table: str) -> bool:
        name = quote_table(self._schema, table)
        return self._connection.execute("select to_regclass(%s)", [name]).fetchone() != (None,)

    def _partitions(self) -> list[tuple[str, date]]:
        found = self._connection.execute(
            "select relname from pg_inherits join pg_class on pg_class.oid = inhrelid "
            "where inhparent = to_regclass(%s) order by relname",
            [self._name],
        )
        days = [(str(name), str(name).rpartition("_")[2]) for (name,) in found]
        return [(name, datetime.strptime(day, "%Y%m%d").date()) for name, day in days]  # noqa: DTZ007 - a day


@contextmanager
def open_postgres_collected(
    conninfo: str, schema: str, table: CollectedTable
) -> Iterator[PostgresCollected]:
    """Open the table in PostgreSQL, by libpq's connection string."""
    try:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            yield PostgresCollected(connection, schema, table)
    except (psycopg.ProgrammingError, psycopg.NotSupportedError) as err:
        user = conninfo_to_dict(conninfo)["user"]
        raise RunnerError(
            f"PostgreSQL, {schema}.{table.name}: {' '.join(str(err).split())}",
            hint=f"grant {user} the right to create and write tables in {schema}; rename "
            "a table of this name if it is not one that `runner collect` created",
        ) from err
    except (psycopg.DataError, psycopg.IntegrityError) as err:
        raise RunnerError(
            f"PostgreSQL, {schema}.{table.name} refuses a row: {' '.join(str(err).split())}",
            hint="change the column or constraint that refuses it, and run the command again",
        ) from err


def _declared(column: CollectedColumn) -> str:
    null = " not null" if column.required else ""
    return f"{quote(column.name)} {_TYPES[column.type]}{null}"


def _day(instant: object) -> date:
    assert isinstance(instant, datetime)  # noqa: S101 - the first column of the key is one
    return instant.astimezone(UTC).date()

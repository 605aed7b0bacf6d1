"""Write the raw tables into PostgreSQL, all or nothing, and know when they are there already."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg
import pyarrow as pa
import pyarrow.csv
from psycopg import sql
from psycopg.conninfo import make_conninfo

from examples.shop.tables import DDL
from runner.errors import RunnerError
from runner.settings import Settings

SCHEMA = "raw_data"
# Built incrementally by dbt. New rows continue them; a new history must not, so they go with it.
INCREMENTAL_MARTS = ("user_activity", "user_category_affinity")

# Raised whenever the same parameters give other rows than before.
GENERATOR_VERSION = 1
_LOCK = 7_467_001


@dataclass(frozen=True)
class Parameters:
    """What the rows depend on, and nothing else."""

    users: int
    days: int
    seed: int
    end: datetime

    @property
    def start(self) -> datetime:
        """The first midnight."""
        return self.end - timedelta(days=self.days)


def connect(settings: Settings) -> psycopg.Connection:
    """Connect to the database of PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE."""
    postgres = settings.postgres
    try:
        conninfo = make_conninfo("", **postgres.conninfo, connect_timeout=10)
        return psycopg.connect(conninfo, autocommit=True)
    except psycopg.OperationalError as err:
        raise RunnerError(
            f"PostgreSQL at {postgres.host}:{postgres.port}: {err}",
            hint="run `runner up`, or set PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE",
        ) from err


def is_loaded(connection: psycopg.Connection, parameters: Parameters) -> bool:
    """Return whether the raw tables hold exactly what `parameters` give."""
    found = connection.execute("select to_regclass(%s)", [f"{SCHEMA}.loads"]).fetchone()
    if found is None or found[0] is None:
        return False
    row = connection.execute(
        f"select users, days, seed, loaded_until, generator_version from {SCHEMA}.loads"
    ).fetchone()
    expected = (parameters.users, parameters.days, parameters.seed, parameters.end)
    return row == (*expected, GENERATOR_VERSION)


def write(
    connection: psycopg.Connection,
    tables: Mapping[str, pa.Table],
    parameters: Parameters,
    mart_schema: str,
) -> None:
    """Replace the raw tables by `tables` in one transaction.

    Parameters
    ----------
    mart_schema
        Where dbt's incremental marts are: they would go on from the old history, so they are
        dropped and dbt rebuilds them.
    """
    with connection.transaction():
        # Two at once would wait for each other's tables in turn; this lets them queue.
        connection.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
        connection.execute(f"create schema if not exists {SCHEMA}")
        for name, table in tables.items():
            _replace(connection, name, DDL[name])
            _copy(connection, name, table)
        _write_load(connection, parameters)
        for name in INCREMENTAL_MARTS:
            connection.execute(
                sql.SQL("drop table if exists {}").format(sql.Identifier(mart_schema, name))
            )


def _replace(connection: psycopg.Connection, name: str, ddl: str) -> None:
    table = sql.Identifier(SCHEMA, name)
    # Cascade to dbt's staging views; dbt creates them again.
    connection.execute(sql.SQL("drop table if exists {} cascade").format(table))
    connection.execute(sql.SQL("create table {} ({})").format(table, sql.SQL(ddl)))


def _copy(connection: psycopg.Connection, name: str, table: pa.Table) -> None:
    text = io.BytesIO()
    pa.csv.write_csv(table, text)
    statement = sql.SQL("copy {} ({}) from stdin (format csv, header)").format(
        sql.Identifier(SCHEMA, name), sql.SQL(", ").join(map(sql.Identifier, table.column_names))
    )
    with connection.cursor() as cursor:
        with cursor.copy(statement) as copy:
            copy.write(text.getbuffer())
        # dbt reads the tables before the server's own statistics run would come round.
        cursor.execute(sql.SQL("analyze {}").format(sql.Identifier(SCHEMA, name)))


def _write_load(connection: psycopg.Connection, parameters: Parameters) -> None:
    _replace(
        connection,
        "loads",
        """
        loaded_from timestamptz not null,
        loaded_until timestamptz not null,
        users bigint not null,
        days bigint not null,
        seed bigint not null,
        generator_version bigint not null
        """,
    )
    connection.execute(
        f"insert into {SCHEMA}.loads values (%s, %s, %s, %s, %s, %s)",
        [
            parameters.start,
            parameters.end,
            parameters.users,
            parameters.days,
            parameters.seed,
            GENERATOR_VERSION,
        ],
    )

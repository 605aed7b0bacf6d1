"""Duplicate rows of a feature mart in PostgreSQL. The twin of `bigquery.duplicates`."""

from __future__ import annotations

import psycopg

from runner.errors import RunnerError
from runner.project.manifest import FeatureMart
from runner.settings import PostgresAddress
from runner.sql import quote_table
from runner.warehouse.duplicate_rows import (
    DuplicateRows,
    duplicates_in,
    duplicates_sql,
    identifying,
)
from runner.warehouse.postgres.indexes import table_indexes
from runner.warehouse.postgres.session_settings import settings_sql


def postgres_duplicates(address: PostgresAddress, mart: FeatureMart) -> DuplicateRows:
    """See `open_mart.find_duplicates`."""
    table = quote_table(mart.schema, mart.alias)
    try:
        with psycopg.connect(**address.conninfo) as connection:  # type: ignore[arg-type]
            connection.read_only = True
            connection.execute(settings_sql().encode())
            if table_indexes(connection, table).is_unique(identifying(mart)):
                return DuplicateRows()
            return duplicates_in(mart, connection.execute(duplicates_sql(mart).encode()).fetchall())
    except psycopg.Error as err:
        reason = " ".join(str(err).split())
        raise RunnerError(
            f"{mart.file}: {mart.name}: PostgreSQL refuses the query: {reason}",
            hint=f"run `dbt build --select +{mart.name}`, and `runner status` to see the server",
        ) from err

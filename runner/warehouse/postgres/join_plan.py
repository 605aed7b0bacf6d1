"""From Feast's objects to a plan of the join: PostgreSQL's columns, keys, strategy per view."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
from psycopg.postgres import types as registry

from runner import console
from runner.errors import RunnerError
from runner.warehouse.join.feast_protocols import FeastSource
from runner.warehouse.join.join_parts import JoinColumn, JoinView
from runner.warehouse.join.view_plan import strip_semicolon
from runner.warehouse.postgres.indexes import index_advice, table_indexes
from runner.warehouse.postgres.session import conninfo, opening
from runner.warehouse.postgres.store_config import PostgresStoreConfig
from runner.warehouse.postgres.types import column_of


@contextmanager
def planning(config: PostgresStoreConfig) -> Iterator[psycopg.Connection]:
    """Connect in order to ask about columns and indexes; nothing is read or written.

    Raises
    ------
    RunnerError
        If the server does not answer.
    """
    try:
        connection = psycopg.connect(conninfo(config))
    except psycopg.OperationalError as err:
        raise RunnerError(
            f"cannot reach PostgreSQL at {config.host}:{config.port}: {err}",
            hint="run `runner up`, or set PGHOST and PGPORT to a server that is running",
        ) from err
    with connection:
        for statement in opening(config):
            connection.execute(statement.encode())
        yield connection


def describe(connection: psycopg.Connection, query: str, what: str) -> tuple[JoinColumn, ...]:
    """Return the columns of `query` as the server describes them; nothing is executed.

    Raises
    ------
    RunnerError
        If the server does not accept the query; the message holds its reason.
    """
    server = connection.pgconn
    result = server.prepare(b"", query.encode())
    if result.status == psycopg.pq.ExecStatus.COMMAND_OK:
        result = server.describe_prepared(b"")
    if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
        reason = result.get_error_message("utf-8").strip()
        raise RunnerError(f"{what}: {reason}", hint="try the SQL in psql; run `dbt build` first")
    types = [result.ftype(i) for i in range(result.nfields)]
    own = _own_types(connection, types)
    names = ((result.fname(i) or b"").decode() for i in range(result.nfields))
    return tuple(
        JoinColumn(name, own[oid]) if oid in own else column_of(name, oid)
        for name, oid in zip(names, types, strict=True)
    )


def _own_types(connection: psycopg.Connection, types: Iterable[int]) -> dict[int, str]:
    """Return the names of those of `types` that a database has defined for itself."""
    own = [oid for oid in types if registry.get(oid) is None]
    if not own:
        return {}
    query = "select oid::int8, format_type(oid, null) from pg_type where oid = any(%s)"
    return dict(connection.execute(query, [own]).fetchall())


def source_of(data_source: FeastSource) -> str:
    """Return what follows `from` for a PostgreSQLSource."""
    # Imported here: commands that plan a join without Feast import this module too.
    from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
        PostgreSQLSource,
    )

    if not isinstance(data_source, PostgreSQLSource):
        raise RunnerError(
            f"data source {data_source.name} is a {type(data_source).__name__}",
            hint="build the definitions for this target: dbt parse --target local",
        )
    options = data_source._postgres_options  # Feast offers no other way to know
    if options._table:
        return str(options._table)
    return f"(\n{strip_semicolon(options._query)}\n)"


def with_index(connection: psycopg.Connection, view: JoinView) -> JoinView:
    """Return the view of a table with what its indexes allow; advises one where it has none."""
    created = view.created.name if view.created and view.knowledge_time else None
    keys, stamp = [column.name for _, column in view.keys], view.timestamp.name
    indexes = table_indexes(connection, view.source)
    is_indexed = indexes.key_order(keys, stamp) is not None
    if not is_indexed and (advice := index_advice(connection, view.source, keys, stamp, created)):
        console.warn(f"{advice[0]}; {advice[1]}")
    has_ties = not indexes.is_unique({*keys, stamp, *filter(None, [created])})
    return replace(view, tie_break=view.tie_break if has_ties else (), is_indexed=is_indexed)

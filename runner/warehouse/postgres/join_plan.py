"""From Feast's objects to a plan of the join: PostgreSQL's columns, keys, strategy per view."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import psycopg

from runner import console
from runner.errors import RunnerError
from runner.warehouse.join.join_parts import JoinColumn, JoinView
from runner.warehouse.join.view_plan import (
    SourceColumns,
    strip_semicolon,
    view_of,
)
from runner.warehouse.postgres.indexes import check_indexes, index_advice
from runner.warehouse.postgres.types import column_of


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
    names = ((result.fname(i) or b"").decode() for i in range(result.nfields))
    return tuple(column_of(name, result.ftype(i)) for i, name in enumerate(names))


def source_of(data_source: Any) -> str:
    """Return what stands behind `from` for a PostgreSQLSource."""
    options = data_source._postgres_options  # Feast offers no other way to tell
    if options._table:
        return str(options._table)
    return f"(\n{strip_semicolon(options._query)}\n)"


def plan_views(
    connection: psycopg.Connection,
    requested: Iterable[tuple[Any, list[str]]],
    *,
    full_feature_names: bool,
    knowledge_time: bool,
) -> list[JoinView]:
    """Return one `View` per pair (Feast feature view, names of its features)."""
    views = []
    for view, names in requested:
        source = source_of(view.batch_source)
        columns = source_columns(connection, view.batch_source, source)
        planned = view_of(
            view,
            names,
            source,
            columns,
            full_feature_names=full_feature_names,
            knowledge_time=knowledge_time,
        )
        is_table = not source.startswith("(")
        views.append(with_index(connection, planned) if is_table else planned)
    return views


def with_index(connection: psycopg.Connection, view: JoinView) -> JoinView:
    """Return the view of a table with what its indexes allow; advises one where it has none."""
    created = view.created.name if view.created and view.knowledge_time else None
    index = (view.source, [column.name for _, column in view.keys], view.timestamp.name, created)
    check = check_indexes(connection, *index)
    advice = None if check.is_usable else index_advice(connection, *index)
    if advice:
        console.warn(f"{advice[0]}; {advice[1]}")
    tie_break = () if check.rules_out_ties else view.tie_break
    return replace(view, tie_break=tie_break, is_indexed=check.is_usable)


def source_columns(connection: psycopg.Connection, data_source: Any, source: str) -> SourceColumns:
    """Return the columns of what `source_of(data_source)` gave."""
    what = f"data source {data_source.name}"
    return SourceColumns(
        data_source, describe(connection, f"select * from {source} as source", what)
    )

"""From Feast's objects to a plan of the join: PostgreSQL's columns, keys, strategy per view."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg

from runner import console
from runner.errors import RunnerError
from runner.features.point_in_time.model import Column, Feature, View
from runner.features.point_in_time.plan import (
    SourceColumns,
    declared_type,
    join_keys,
    strip_semicolon,
    ttl_of,
)
from runner.features.postgres.indexes import NOT_INDEXED, check_indexes, index_advice
from runner.features.postgres.types import column_of


def describe(connection: psycopg.Connection, query: str, what: str) -> tuple[Column, ...]:
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
) -> list[View]:
    """Return one `View` per pair (Feast feature view, names of its features)."""
    return [
        _plan_view(connection, view, names, full_feature_names, knowledge_time)
        for view, names in requested
    ]


def _plan_view(
    connection: psycopg.Connection,
    view: Any,
    names: list[str],
    full_feature_names: bool,
    knowledge_time: bool,
) -> View:
    source = source_of(view.batch_source)
    columns = source_columns(connection, view.batch_source, source)
    name = view.projection.name_to_use()
    timestamp = columns.at(view.batch_source.timestamp_field)
    created_name = view.batch_source.created_timestamp_column
    created = columns.at(created_name) if created_name else None
    keys = tuple(join_keys(view, columns))
    check = NOT_INDEXED
    if not source.startswith("("):
        visible_created = created.name if created and knowledge_time else None
        key_columns = [column.name for _, column in keys]
        index = (source, key_columns, timestamp.name, visible_created)
        check = check_indexes(connection, *index)
        advice = None if check.is_usable else index_advice(connection, *index)
        if advice:
            console.warn(f"{advice[0]}; {advice[1]}")
    features = {feature.name: feature for feature in view.features}
    prefix = f"{name}__" if full_feature_names else ""
    return View(
        name=name,
        source=source,
        keys=keys,
        timestamp=timestamp,
        created=created,
        features=tuple(
            Feature(columns.of(n), declared_type(features.get(n)), f"{prefix}{n}") for n in names
        ),
        tie_break=() if check.rules_out_ties else tuple(columns.of(n) for n in features),
        ttl=ttl_of(view),
        knowledge_time=knowledge_time,
        is_indexed=check.is_usable,
    )


def source_columns(connection: psycopg.Connection, data_source: Any, source: str) -> SourceColumns:
    """Return the columns of what `source_of(data_source)` gave."""
    what = f"data source {data_source.name}"
    return SourceColumns(
        data_source, describe(connection, f"select * from {source} as source", what)
    )

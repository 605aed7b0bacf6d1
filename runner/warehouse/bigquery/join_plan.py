"""From Feast's objects to a plan of the join, and the spine to join to: BigQuery's side of both.

The twin of `postgres.join_plan` and `postgres.entity_rows`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import pandas as pd
from feast.data_source import DataSource
from feast.infra.offline_stores.bigquery_source import BigQuerySource

from runner.errors import RunnerError
from runner.sql import quote_bigquery as quote
from runner.warehouse.bigquery.order import with_order
from runner.warehouse.bigquery.session import BigQuerySession, quoted_table
from runner.warehouse.bigquery.types import TIMES, comparison, family, utc
from runner.warehouse.join.entity_frame import free_name, split_frame
from runner.warehouse.join.join_parts import EntityRows, JoinColumn, JoinSpine, JoinView
from runner.warehouse.join.view_plan import (
    EVENT_TIMESTAMP,
    SourceColumns,
    check_key_types,
    check_names,
    common_keys,
    event_timestamp_of,
    strip_semicolon,
    view_of,
)


def source_of(data_source: DataSource) -> str:
    """Return what stands behind `from` for a BigQuerySource."""
    if not isinstance(data_source, BigQuerySource):
        raise RunnerError(
            f"data source {data_source.name} is a {type(data_source).__name__}",
            hint="build the definitions for this target: dbt parse --target cloud",
        )
    if data_source.query:
        return f"(\n{strip_semicolon(data_source.query)}\n)"
    return quoted_table(data_source.table)


def source_columns(session: BigQuerySession, data_source: DataSource, source: str) -> SourceColumns:
    """Return the columns of what `source_of(data_source)` gave."""
    what = f"data source {data_source.name}"
    return SourceColumns(data_source, session.describe(f"select * from {source} as source", what))


def plan_views(
    session: BigQuerySession,
    requested: Iterable[tuple[Any, list[str]]],
    *,
    full_feature_names: bool,
    knowledge_time: bool,
) -> list[JoinView]:
    """Return one `View` per pair (Feast feature view, names of its features)."""
    views = []
    for view, names in requested:
        source = source_of(view.batch_source)
        columns = source_columns(session, view.batch_source, source)
        views.append(
            view_of(
                view,
                names,
                source,
                columns,
                full_feature_names=full_feature_names,
                knowledge_time=knowledge_time,
            )
        )
    return views


def query_rows(session: BigQuerySession, query: str, views: Sequence[JoinView]) -> EntityRows:
    """Return the spine that the SQL `query` selects.

    Raises
    ------
    RunnerError
        If the query is wrong, or a join key or the timestamp is missing.
    """
    query = strip_semicolon(query)
    columns = session.describe(f"select * from (\n{query}\n)", "the spine's SQL")
    timestamp = event_timestamp_of(columns, TIMES)
    names = tuple(column.name for column in columns)
    check_names(names, views)
    check_key_types({column.name: column for column in columns}, views, comparison)
    ordered, order = with_order(query, names)
    spine = JoinSpine(ordered, columns, timestamp, free_name(names, views), order=order)
    return EntityRows(spine, list(views), names, returned=columns)


def frame_rows(
    session: BigQuerySession, frame: pd.DataFrame, views: Sequence[JoinView]
) -> EntityRows:
    """Return the spine in `frame`: join keys and timestamps go up, everything else stays here."""
    parts = split_frame(frame, views, family)
    name = session.upload_name()
    spine = JoinSpine(
        query=f"select * from {quote(*name)}",
        columns=(*parts.keys, JoinColumn(parts.timestamp, "TIMESTAMP")),
        timestamp=parts.timestamp,
        row=parts.row,
        is_numbered=True,
    )
    upload = (".".join(name), parts.uploaded)
    return EntityRows(spine, list(views), parts.names, upload=upload, beside=parts.own)


def range_rows(
    session: BigQuerySession, start: datetime, end: datetime, views: Sequence[JoinView]
) -> EntityRows:
    """Return the spine of every key and event timestamp that the views have from `start` to `end`.

    Raises
    ------
    RunnerError
        If the views have different join keys: then there is no common row.
    """
    parts = []
    keys = common_keys(views)
    for view in views:
        stamp = utc(f"source.{quote(view.timestamp.name)}", view.timestamp.type)
        outputs = [f"source.{quote(c.name)} as {quote(key)}" for key, c in sorted(view.keys)]
        parts.append(
            f"select {', '.join([*outputs, f'{stamp} as {quote(EVENT_TIMESTAMP)}'])} "
            f"from {view.source} as source "
            f"where {stamp} between {literal(start)} and {literal(end)}"
        )
    order = ", ".join(map(quote, [EVENT_TIMESTAMP, *keys]))
    union = "\nunion all\n".join(parts)
    return query_rows(session, f"select distinct * from (\n{union}\n) order by {order}", views)


def literal(time: datetime) -> str:
    """Return `time`, which has a zone, as BigQuery's SQL writes an instant."""
    return f"timestamp '{time.isoformat(sep=' ')}'"

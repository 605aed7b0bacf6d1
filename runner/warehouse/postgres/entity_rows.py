"""The spine as the join sees it: a query, an uploaded DataFrame, or a range of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import pandas as pd
import psycopg
from psycopg import sql

from runner.sql import quote
from runner.warehouse.join.entity_frame import free_name, split_frame
from runner.warehouse.join.join_parts import EntityRows, JoinColumn, JoinSpine, JoinView
from runner.warehouse.join.key_types import check_key_types
from runner.warehouse.join.view_plan import (
    EVENT_TIMESTAMP,
    check_names,
    common_keys,
    event_timestamp_of,
    strip_semicolon,
)
from runner.warehouse.postgres.join_plan import describe
from runner.warehouse.postgres.types import TIMES, comparison, family, uploaded_type, utc

_UPLOAD = "entity_rows"


def query_rows(connection: psycopg.Connection, query: str, views: Sequence[JoinView]) -> EntityRows:
    """Return the spine that the SQL `query` selects.

    Raises
    ------
    RunnerError
        If the query is wrong, or a join key or the timestamp is missing.
    """
    query = strip_semicolon(query)
    columns = describe(connection, f"select * from (\n{query}\n) as given", "the spine's SQL")
    timestamp = event_timestamp_of(columns, TIMES)
    names = tuple(column.name for column in columns)
    check_names(names, views)
    types = {column.name: column for column in columns}
    check_key_types(types, views, comparison, family)
    spine = JoinSpine(query, columns, timestamp, free_name(names, views))
    served = [_compared(view, types) for view in views]
    return EntityRows(spine, served, names, returned=columns)


def _compared(view: JoinView, types: Mapping[str, JoinColumn]) -> JoinView:
    """Return `view` with the way its keys are compared with spine columns of these `types`.

    A comparison across families (bigint = numeric) is right, but no index serves it.
    """
    how = {key: comparison(types[key], column) for key, column in view.keys}
    return replace(
        view,
        is_indexed=view.is_indexed and set(how.values()) <= {"index"},
        text_keys=frozenset(key for key, name in how.items() if name == "text"),
    )


def range_query(
    connection: psycopg.Connection, start: datetime, end: datetime, views: Sequence[JoinView]
) -> str:
    """Return the SQL of every key and event timestamp that the views have from `start` to `end`.

    Raises
    ------
    RunnerError
        If the views have different join keys: then there is no common row.
    """
    keys = common_keys(views)
    first, last = (sql.Literal(limit).as_string(connection) for limit in (start, end))
    parts = [_range_part(view, first, last) for view in views]
    order = ", ".join(map(quote, [EVENT_TIMESTAMP, *keys]))
    return "\nunion\n".join(parts) + f"\norder by {order}"


def _range_part(view: JoinView, first: str, last: str) -> str:
    stamp = utc(f"source.{quote(view.timestamp.name)}", view.timestamp.type)
    outputs = [f"source.{quote(column.name)} as {quote(key)}" for key, column in sorted(view.keys)]
    outputs.append(f"{stamp} as {quote(EVENT_TIMESTAMP)}")
    return (
        f"select distinct {', '.join(outputs)} from {view.source} as source "
        f"where {stamp} between {first}::timestamptz and {last}::timestamptz"
    )


def frame_rows(frame: pd.DataFrame, views: Sequence[JoinView]) -> EntityRows:
    """Return the spine in `frame`: join keys and timestamps go up, everything else stays here.

    Raises
    ------
    RunnerError
        If a column is missing or cannot be what the feature table's key is.
    """
    parts = split_frame(frame, views, family)
    keys = tuple(replace(key, type=uploaded_type(key)) for key in parts.keys)
    types = {key.name: key for key in keys}
    spine = JoinSpine(
        query=f'select * from pg_temp."{_UPLOAD}"',
        columns=(*keys, JoinColumn(parts.timestamp, "timestamptz")),
        timestamp=parts.timestamp,
        row=parts.row,
        is_numbered=True,
    )
    served = [_compared(view, types) for view in views]
    return EntityRows(
        spine, served, parts.names, upload=(_UPLOAD, parts.uploaded), beside=parts.own
    )

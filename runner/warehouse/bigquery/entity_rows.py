"""The spine as the join sees it: a query, an uploaded DataFrame, or a range of time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pandas as pd

from runner.sql import quote_bigquery as quote
from runner.warehouse.bigquery.order import with_order
from runner.warehouse.bigquery.session import BigQuerySession
from runner.warehouse.bigquery.types import TIMES, comparison, family, literal, utc
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
    check_key_types({column.name: column for column in columns}, views, comparison, family)
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


def range_query(start: datetime, end: datetime, views: Sequence[JoinView]) -> str:
    """Return the SQL of every key and event timestamp that the views have from `start` to `end`.

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
    return f"select distinct * from (\n{union}\n) order by {order}"

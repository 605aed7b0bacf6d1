"""The spine as the join sees it: a query, an uploaded DataFrame, or a range of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import pandas as pd
import psycopg
import pyarrow as pa
from psycopg import sql

from runner.errors import RunnerError
from runner.features.point_in_time.columns import Column, family, utc
from runner.features.point_in_time.entity_frame import KindOf, free_name, split_frame
from runner.features.point_in_time.model import Spine, View
from runner.features.point_in_time.plan import (
    EVENT_TIMESTAMP,
    check_names,
    describe,
    event_timestamp_of,
    strip_semicolon,
)
from runner.sql import quote

_UPLOAD = "entity_rows"


@dataclass(frozen=True)
class EntityRows:
    """A spine and the views as they are to be joined to it.

    Attributes
    ----------
    returned
        The spine columns that the query returns; those in `beside` it need not.
    upload, beside
        As in `retrieval_job.Request`.
    names
        All columns of the spine.
    """

    spine: Spine
    views: list[View]
    names: tuple[str, ...]
    returned: tuple[Column, ...] = ()
    upload: tuple[str, pa.Table] | None = None
    beside: pa.Table | None = None


def query_rows(connection: psycopg.Connection, query: str, views: Sequence[View]) -> EntityRows:
    """Return the spine that the SQL `query` selects.

    Raises
    ------
    RunnerError
        If the query is wrong, or a join key or the timestamp is missing.
    """
    query = strip_semicolon(query)
    columns = describe(connection, f"select * from (\n{query}\n) as given", "the spine's SQL")
    timestamp = event_timestamp_of(columns)
    names = tuple(column.name for column in columns)
    check_names(names, views)
    types = {column.name: column for column in columns}
    check_key_types(types, views)
    # A comparison across families (bigint = numeric) is right, but no index serves it.
    served = [
        replace(
            view,
            is_indexed=view.is_indexed
            and all(family(types[key]) == family(column) for key, column in view.keys),
        )
        for view in views
    ]
    spine = Spine(query, columns, timestamp, free_name(names, views))
    return EntityRows(spine, served, names, returned=columns)


def check_key_types(
    types: Mapping[str, Column], views: Sequence[View], kind_of: KindOf = family
) -> None:
    """Check that no join key is text on one side only.

    Raises
    ------
    RunnerError
        Naming the first key that is.
    """
    for view in views:
        for key, column in view.keys:
            kinds = {kind_of(types[key]), kind_of(column)}
            if len(kinds) == 2 and "text" in kinds:
                raise RunnerError(
                    f"join key {key} is {types[key].type} in the spine "
                    f"but {column.type} in feature view {view.name}",
                    hint=f"cast {key} to {column.type} in the spine",
                )


def range_rows(
    connection: psycopg.Connection, start: datetime, end: datetime, views: Sequence[View]
) -> EntityRows:
    """Return the spine of every key and event timestamp that the views have from `start` to `end`.

    Raises
    ------
    RunnerError
        If the views have different join keys: then there is no common row.
    """
    keys = common_keys(views)
    first, last = (sql.Literal(limit).as_string(connection) for limit in (start, end))
    parts = [_range_part(view, first, last) for view in views]
    order = ", ".join(map(quote, [EVENT_TIMESTAMP, *keys]))
    return query_rows(connection, "\nunion\n".join(parts) + f"\norder by {order}", views)


def common_keys(views: Sequence[View]) -> tuple[str, ...]:
    """Return the join keys that all views have.

    Raises
    ------
    RunnerError
        If the views have different ones.
    """
    keys = [tuple(key for key, _ in view.keys) for view in views]
    if any(set(names) != set(keys[0]) for names in keys):
        raise RunnerError(
            "views with different join keys have no common rows: "
            + "; ".join(f"{v.name} ({', '.join(k)})" for v, k in zip(views, keys, strict=True)),
            hint="pass entity_df, or ask for one view at a time",
        )
    return keys[0]


def _range_part(view: View, first: str, last: str) -> str:
    stamp = utc(f"source.{quote(view.timestamp.name)}", view.timestamp.type)
    outputs = [f"source.{quote(column.name)} as {quote(key)}" for key, column in sorted(view.keys)]
    outputs.append(f"{stamp} as {quote(EVENT_TIMESTAMP)}")
    return (
        f"select distinct {', '.join(outputs)} from {view.source} as source "
        f"where {stamp} between {first}::timestamptz and {last}::timestamptz"
    )


def frame_rows(frame: pd.DataFrame, views: Sequence[View]) -> EntityRows:
    """Return the spine in `frame`: join keys and timestamps go up, everything else stays here.

    Raises
    ------
    RunnerError
        If a column is missing or cannot be what the feature table's key is.
    """
    parts = split_frame(frame, views)
    spine = Spine(
        query=f'select * from pg_temp."{_UPLOAD}"',
        columns=(*parts.keys, Column(parts.timestamp, "timestamptz")),
        timestamp=parts.timestamp,
        row=parts.row,
        is_numbered=True,
    )
    return EntityRows(
        spine, list(views), parts.names, upload=(_UPLOAD, parts.uploaded), beside=parts.own
    )

"""The text of the pulls: newest row per key, or every row, within a window of time."""

from __future__ import annotations

from collections.abc import Sequence

from runner.features.bq_types import exported, order_of
from runner.features.pg_types import Column
from runner.features.pit_model import listed
from runner.sql import quote_bigquery as quote


def latest_query(
    source: str,
    keys: Sequence[Column],
    features: Sequence[Column],
    timestamps: Sequence[Column],
    window: str,
) -> str:
    """Return the SQL for the newest row per key within `window`, by the join's own tie-break.

    Parameters
    ----------
    keys, features, timestamps
        Columns to return; `timestamps` are the event and perhaps the created timestamp.
    window
        A condition on the event timestamp.
    """
    columns = [*keys, *features, *timestamps]
    newest = [
        f"{term} desc"
        for column in (*timestamps, *features)
        for term in order_of(f"source.{quote(column.name)}", column)
    ]
    partition = ", ".join(f"source.{quote(key.name)}" for key in keys)
    by = f"partition by {partition} " if keys else ""
    inner = [f"{_value(column)} as pulled_{n}" for n, column in enumerate(columns, start=1)]
    inner.append(f"row_number() over ({by}order by {', '.join(newest)}) as newness")
    outer = [f"pulled_{n} as {quote(column.name)}" for n, column in enumerate(columns, start=1)]
    return (
        f"select\n{listed(outer)}\nfrom (\n    select\n{listed(inner, 8)}\n"
        f"    from {source} as source\n    where {window}\n)\nwhere newness = 1"
    )


def all_query(source: str, columns: Sequence[Column], window: str) -> str:
    """Return the SQL for `columns` of every row within `window`."""
    outputs = [f"{_value(column)} as {quote(column.name)}" for column in columns]
    return f"select\n{listed(outputs)}\nfrom {source} as source\nwhere {window}"


def _value(column: Column) -> str:
    return exported(f"source.{quote(column.name)}", column)

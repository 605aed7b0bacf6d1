"""The text of the pulls: newest row per key, or every row, within a window of time."""

from __future__ import annotations

from collections.abc import Sequence

from runner.sql import quote_bigquery as quote
from runner.warehouse.bigquery.types import exported, order_of
from runner.warehouse.join.join_parts import JoinColumn, listed


def latest_query(
    source: str,
    keys: Sequence[JoinColumn],
    features: Sequence[JoinColumn],
    timestamps: Sequence[JoinColumn],
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
        term
        for column in (*timestamps, *features)
        for term in order_of(f"source.{quote(column.name)}", column)
    ]
    return newest_query(
        f"{source} as source",
        [(_value(column), column.name) for column in columns],
        [f"source.{quote(key.name)}" for key in keys],
        newest,
        window,
    )


def newest_query(
    relation: str,
    outputs: Sequence[tuple[str, str]],
    keys: Sequence[str],
    newest: Sequence[str],
    condition: str,
    *,
    only: str = "",
) -> str:
    """Return the SQL for the newest row per key of what satisfies `condition`.

    Parameters
    ----------
    relation
        What follows `from`, called `source`.
    outputs
        Pairs of an expression and the name of its column.
    newest
        What the newest row has the greatest values of.
    only
        What at least one of a key's rows must satisfy; empty: nothing.
    """
    by = f"partition by {', '.join(keys)} " if keys else ""
    order = ", ".join(f"{term} desc" for term in newest)
    inner = [f"{value} as pulled_{n}" for n, (value, _) in enumerate(outputs, start=1)]
    inner.append(f"row_number() over ({by}order by {order}) as newness")
    if only:
        inner.append(f"logical_or({only}) over ({by.rstrip()}) as is_wanted")
    outer = [f"pulled_{n} as {quote(name)}" for n, (_, name) in enumerate(outputs, start=1)]
    wanted = " and is_wanted" if only else ""
    return (
        f"select\n{listed(outer)}\nfrom (\n    select\n{listed(inner, 8)}\n"
        f"    from {relation}\n    where {condition}\n)\nwhere newness = 1{wanted}"
    )


def all_query(source: str, columns: Sequence[JoinColumn], window: str) -> str:
    """Return the SQL for `columns` of every row within `window`."""
    outputs = [f"{_value(column)} as {quote(column.name)}" for column in columns]
    return f"select\n{listed(outputs)}\nfrom {source} as source\nwhere {window}"


def _value(column: JoinColumn) -> str:
    return exported(f"source.{quote(column.name)}", column)

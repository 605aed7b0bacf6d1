"""The text of the pulls: newest row per key, or every row, within a window of time."""

from __future__ import annotations

from collections.abc import Sequence

from runner.sql import quote
from runner.warehouse.join.join_parts import JoinColumn, listed
from runner.warehouse.postgres.types import comparable, output


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
    newest = [f"source.{quote(timestamps[0].name)} desc"]
    newest += [f"source.{quote(column.name)} desc nulls last" for column in timestamps[1:]]
    newest += [f"{comparable(f'source.{quote(c.name)}', c)} desc nulls last" for c in features]
    key_names = [f"source.{quote(key.name)}" for key in keys]
    lines = [
        f"select distinct on ({', '.join(key_names)})" if keys else "select",
        listed(_plain_outputs([*keys, *features, *timestamps])),
        f"from {source} as source",
        f"where {window}",
        f"order by {', '.join([*key_names, *newest])}",
    ]
    return "\n".join(lines if keys else [*lines, "limit 1"])


def all_query(source: str, columns: Sequence[JoinColumn], window: str) -> str:
    """Return the SQL for `columns` of every row within `window`."""
    lines = ["select", listed(_plain_outputs(columns)), f"from {source} as source"]
    return "\n".join([*lines, f"where {window}"])


def _plain_outputs(columns: Sequence[JoinColumn]) -> list[str]:
    return [output(f"source.{quote(column.name)}", column) for column in columns]

"""The point-in-time join in BigQuery's SQL: versions and spine rows on one timeline, swept once.

The twin of `postgres.merge`, and what differs has its reason in BigQuery:

- the spine's SQL is in the query once, and each view adds its features to what the view before
  it has handed on: a common table expression is computed again wherever it is named, so rows
  numbered in it could not be found again;
- versions are numbered per key: a window without `partition by` is the work of a single machine;
- a query in parentheses has no order, so the last line repeats the spine's.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from runner.sql import quote_bigquery as quote
from runner.warehouse.bigquery.types import exported, order_of, utc
from runner.warehouse.join.join_parts import JoinSpine, JoinView, conditions, listed


def merge_ctes(
    view: JoinView,
    given: dict[str, str],
    spine: JoinSpine,
    carried: list[str],
    last: str,
    alias: str,
) -> list[str]:
    """Return the common table expressions; the last, `<alias>_found`, has `carried` and features.

    Parameters
    ----------
    given
        The spine's columns and what they are called here.
    carried, last
        What the expression called `last` hands on.
    """
    keys = [f"key_{number}" for number in range(1, len(view.keys) + 1)]
    mine = [*(given[key] for key, _ in view.keys), given[spine.timestamp]]
    return [
        _versions(view, alias, keys),
        _timeline(alias, keys, mine, carried, last),
        _visible(alias, keys, carried),
        _found(view, alias, keys, carried),
    ]


def _partition(keys: Sequence[str]) -> str:
    return f"partition by {', '.join(keys)} " if keys else ""


def _versions(view: JoinView, alias: str, keys: list[str]) -> str:
    stamp = utc(f"source.{quote(view.timestamp.name)}", view.timestamp.type)
    known_at = stamp
    winning = [stamp]
    columns = [f"source.{quote(column.name)}" for _, column in view.keys]
    where = [f"{column} is not null" for column in columns] + [f"{stamp} is not null"]
    if view.created:
        created = utc(f"source.{quote(view.created.name)}", view.created.type)
        winning.append(created)
        if view.knowledge_time:
            known_at = f"greatest({stamp}, {created})"
            where.append(f"{created} is not null")
    for column in view.tie_break:
        winning += order_of(f"source.{quote(column.name)}", column)
    order = ", ".join(winning)
    outputs = [f"{column} as {key}" for column, key in zip(columns, keys, strict=True)]
    outputs.append(f"row_number() over ({_partition(columns)}order by {order}) as version")
    outputs += [f"{stamp} as stamp", f"{known_at} as known_at"]
    outputs += [
        f"{exported('source.' + quote(f.column.name), f.column, f.declared)} as feature_{n}"
        for n, f in enumerate(view.features, start=1)
    ]
    return (
        f"{alias}_versions as (\n    select\n{listed(outputs, 8)}\n"
        f"    from {view.source} as source\n    where {conditions(where, 6)}\n)"
    )


def _timeline(alias: str, keys: list[str], mine: list[str], carried: list[str], last: str) -> str:
    versions = [*keys, "known_at as instant", "version", "false as is_given"]
    versions += [f"null as {name}" for name in carried]
    rows = [*mine, "null", "true", *carried]
    return (
        f"{alias}_timeline as (\n    select {', '.join(versions)}\n    from {alias}_versions\n"
        f"    union all\n    select {', '.join(rows)}\n    from {last}\n)"
    )


def _visible(alias: str, keys: list[str], carried: list[str]) -> str:
    outputs = [*keys, "instant", "is_given", *carried]
    outputs.append(f"max(version) over ({_partition(keys)}order by instant) as version")
    return f"{alias}_visible as (\n    select\n{listed(outputs, 8)}\n    from {alias}_timeline\n)"


def _found(view: JoinView, alias: str, keys: list[str], carried: list[str]) -> str:
    outputs = [f"visible.{name}" for name in carried]
    outputs += [
        f"versions.feature_{n} as {alias}_feature_{n}" for n in range(1, len(view.features) + 1)
    ]
    on = [f"versions.{name} = visible.{name}" for name in (*keys, "version")]
    if view.ttl:
        age = "timestamp_diff(visible.instant, versions.stamp, microsecond)"
        on.append(f"{age} <= {view.ttl // timedelta(microseconds=1)}")
    return (
        f"{alias}_found as (\n    select\n{listed(outputs, 8)}\n"
        f"    from {alias}_visible as visible\n"
        f"    left join {alias}_versions as versions\n      on {conditions(on, 6)}\n"
        f"    where visible.is_given\n)"
    )

"""The point-in-time join in BigQuery's SQL: versions and spine rows on one timeline, swept once.

The twin of `postgres.merge`, and what differs has its reason in BigQuery:

- the spine's SQL stands in the query once, and each view adds its features to what the view before
  it has handed on: a common table expression is computed anew wherever it is named, so rows
  numbered in it could not be found again;
- versions are numbered per key: a window without `partition by` is the work of a single machine;
- a query in parentheses has no order, so the last line repeats the spine's.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from runner.sql import quote_bigquery as quote
from runner.warehouse.bigquery.types import exported, order_of, spine_output, utc, whole_second
from runner.warehouse.join.join_parts import JoinColumn, JoinSpine, JoinView, conditions, listed
from runner.warehouse.join.sql_names import alias_suffix


def point_in_time_query(
    spine: JoinSpine, views: Sequence[JoinView], columns: Sequence[JoinColumn]
) -> str:
    """Return the SQL that joins `views` to `spine`: its row number, if any, `columns`, features.

    Inside, columns go by number (`given_1`, `v1_feature_1`): names of any kind cannot clash.
    """
    names = _given_names(spine)
    given = {name: f"given_{number}" for number, name in enumerate(names, start=1)}
    suffix = alias_suffix([view.source for view in views])
    last = f"spine{suffix}"
    ctes = [_spine_cte(spine, views, given, last)]
    outputs = [f"{given[spine.row]} as {quote(spine.row)}"] if spine.is_numbered else []
    outputs += [f"{_returned(c, spine, given[c.name])} as {quote(c.name)}" for c in columns]
    carried = list(given.values())
    for number, view in enumerate(views, start=1):
        alias = f"v{number}{suffix}"
        ctes += _view_ctes(view, given, spine, carried, last, alias)
        found = [f"{alias}_feature_{n}" for n in range(1, len(view.features) + 1)]
        outputs += [
            f"{name} as {quote(feature.output)}"
            for name, feature in zip(found, view.features, strict=True)
        ]
        carried, last = carried + found, f"{alias}_found"
    lines = ["with " + ",\n".join(ctes), "select", listed(outputs), f"from {last}"]
    if spine.order:
        lines.append("order by " + ", ".join(f"{given[name]} {how}" for name, how in spine.order))
    return "\n".join(lines)


def _given_names(spine: JoinSpine) -> list[str]:
    names = [spine.row] if spine.is_numbered else []
    names += [column.name for column in spine.columns]
    return list(dict.fromkeys([*names, *(name for name, _ in spine.order)]))


def _spine_cte(
    spine: JoinSpine, views: Sequence[JoinView], given: dict[str, str], alias: str
) -> str:
    types = {column.name: column.type for column in spine.columns}
    keys = {key for view in views for key, _ in view.keys}
    outputs = []
    for name, number in given.items():
        value = quote(name)
        if name == spine.timestamp:
            value = utc(value, types[name])
        elif spine.is_numbered and name in types:
            # A DataFrame's column of nothing but nulls has gone up as text.
            value = f"cast({value} as {types[name].lower()})"
        if name in keys:
            value = whole_second(value, JoinColumn(name, types[name]))
        outputs.append(f"{value} as {number}")
    # The query is not indented: it may hold text over several lines.
    return f"{alias} as (\n    select\n{listed(outputs, 8)}\n    from (\n{spine.query}\n    )\n)"


def _returned(column: JoinColumn, spine: JoinSpine, name: str) -> str:
    return name if column.name == spine.timestamp else spine_output(name, column)


def _view_ctes(
    view: JoinView,
    given: dict[str, str],
    spine: JoinSpine,
    carried: list[str],
    last: str,
    alias: str,
) -> list[str]:
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

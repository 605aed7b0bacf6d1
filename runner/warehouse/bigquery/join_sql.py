"""The text of a point-in-time join in BigQuery's SQL; each view is joined by `merge`."""

from __future__ import annotations

from collections.abc import Sequence

from runner.errors import RunnerError
from runner.sql import quote_bigquery as quote
from runner.warehouse.bigquery.merge import merge_ctes
from runner.warehouse.bigquery.types import spine_output, utc, whole_second
from runner.warehouse.join.join_parts import JoinColumn, JoinSpine, JoinView, listed
from runner.warehouse.join.sql_names import alias_suffix

_MOST_COLUMNS = 10_000


def point_in_time_query(
    spine: JoinSpine, views: Sequence[JoinView], columns: Sequence[JoinColumn]
) -> str:
    """Return the SQL that joins `views` to `spine`: its row number, if any, `columns`, features.

    Inside, columns go by number (`given_1`, `v1_feature_1`): names of any kind cannot clash.

    Raises
    ------
    RunnerError
        If these are more columns than BigQuery returns.
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
        ctes += merge_ctes(view, given, spine, carried, last, alias)
        found = [f"{alias}_feature_{n}" for n in range(1, len(view.features) + 1)]
        outputs += [
            f"{name} as {quote(feature.output)}"
            for name, feature in zip(found, view.features, strict=True)
        ]
        carried, last = carried + found, f"{alias}_found"
    if len(outputs) > _MOST_COLUMNS:
        raise RunnerError(
            f"BigQuery returns at most {_MOST_COLUMNS:,} columns; the spine and the features are "
            f"{len(outputs):,}",
            hint="list fewer features in the recipe",
        )
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

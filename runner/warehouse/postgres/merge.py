"""The join without an index: versions and spine rows on one timeline, swept once.

Feature rows are numbered so that the newer one (by event timestamp, created timestamp, tie-break)
has the higher number. A row becomes visible at the later of its two timestamps. Sorting both
sides by key and instant, the running maximum of the numbers is the visible row of each spine row.
Should that one be older than the ttl, all others are.
"""

from __future__ import annotations

from runner.sql import quote
from runner.warehouse.join.join_parts import JoinSpine, JoinView, conditions, listed
from runner.warehouse.join.packing import Packs
from runner.warehouse.postgres.lateral import packed, require_time_of
from runner.warehouse.postgres.types import comparable, exported, interval, utc


def merge_ctes(view: JoinView, spine: JoinSpine, spine_alias: str, alias: str) -> list[str]:
    """Return the common table expressions; the last, `<alias>_found`, holds what was found.

    Keys and features go by number (`key_1`, `feature_1`): names of any kind cannot clash.
    """
    keys = [f"key_{number}" for number in range(1, len(view.keys) + 1)]
    return [
        _versions(view, spine, spine_alias, alias, keys),
        _timeline(view, spine, spine_alias, alias, keys),
        _visible(alias, keys),
        _found(view, alias),
    ]


def merge_join(
    _view: JoinView, spine: JoinSpine, spine_alias: str, alias: str, packs: Packs | None
) -> str:
    """Return the join of `merge_ctes`' result to the spine."""
    on = f"{alias}.spine_row = {spine_alias}.{quote(spine.row)}"
    found = f"{alias}_found"
    if packs is not None:
        found = f"(select spine_row, {', '.join(packed(packs))} from {found})"
    return f"left join {found} as {alias} on {on}"


def _versions(
    view: JoinView, spine: JoinSpine, spine_alias: str, alias: str, keys: list[str]
) -> str:
    stamp = utc(f"source.{quote(view.timestamp.name)}", view.timestamp.type)
    known_at = stamp
    winning = [stamp]
    where = [f"source.{quote(column.name)} is not null" for _, column in view.keys]
    where.append(f"{stamp} <= (select max({quote(spine.timestamp)}) from {spine_alias})")
    where.append(require_time_of(view, view.timestamp))
    if view.created:
        created = utc(f"source.{quote(view.created.name)}", view.created.type)
        winning.append(f"{created} nulls first")
        if view.knowledge_time:
            known_at = f"greatest({stamp}, {created})"
            where.append(f"{created} is not null")
            where.append(require_time_of(view, view.created))
    winning += [
        f"{comparable('source.' + quote(column.name), column)} nulls first"
        for column in view.tie_break
    ]
    outputs = [f"row_number() over (order by {', '.join(winning)}) as version"]
    outputs += [
        f"source.{quote(column.name)}{_as_text(view, name)} as {key}"
        for key, (name, column) in zip(keys, view.keys, strict=True)
    ]
    outputs += [f"{stamp} as stamp", f"{known_at} as known_at"]
    outputs += [
        f"{exported('source.' + quote(f.column.name), f.column, f.declared)} as feature_{n}"
        for n, f in enumerate(view.features, start=1)
    ]
    return (
        f"{alias}_versions as materialized (\n    select\n{listed(outputs, 8)}\n"
        f"    from {view.source} as source\n    where {conditions(where, 6)}\n)"
    )


def _timeline(
    view: JoinView, spine: JoinSpine, spine_alias: str, alias: str, keys: list[str]
) -> str:
    spine_keys = [f"{quote(key)}{_as_text(view, key)}" for key, _ in view.keys]
    timestamp = quote(spine.timestamp)
    versions = [*keys, "known_at as instant", "version", "null::bigint as spine_row"]
    rows = [*spine_keys, timestamp, "null::bigint", quote(spine.row)]
    return (
        f"{alias}_timeline as (\n    select {', '.join(versions)}\n    from {alias}_versions\n"
        f"    union all\n    select {', '.join(rows)}\n    from {spine_alias}\n"
        f"    where {timestamp} is not null\n)"
    )


def _as_text(view: JoinView, key: str) -> str:
    """Return the cast of a key that is compared by its text."""
    return "::text" if key in view.text_keys else ""


def _visible(alias: str, keys: list[str]) -> str:
    partition = f"partition by {', '.join(keys)} " if keys else ""
    return (
        f"{alias}_visible as (\n    select\n        spine_row,\n        instant,\n"
        f"        max(version) over ({partition}order by instant) as version\n"
        f"    from {alias}_timeline\n)"
    )


def _found(view: JoinView, alias: str) -> str:
    outputs = ["visible.spine_row"]
    outputs += [f"versions.feature_{n}" for n in range(1, len(view.features) + 1)]
    where = ["visible.spine_row is not null"]
    if view.ttl:
        where.append(f"versions.stamp >= visible.instant - {interval(view.ttl)}")
    return (
        f"{alias}_found as (\n    select\n{listed(outputs, 8)}\n"
        f"    from {alias}_visible as visible\n"
        f"    inner join {alias}_versions as versions on versions.version = visible.version\n"
        f"    where {conditions(where, 6)}\n)"
    )

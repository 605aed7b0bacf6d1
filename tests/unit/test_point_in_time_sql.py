"""The SQL of a point-in-time join, as a DBA would read it."""

from __future__ import annotations

import re
from datetime import timedelta

from runner.warehouse.join.join_parts import JoinColumn, JoinFeature, JoinSpine, JoinView
from runner.warehouse.join.sql_names import alias_suffix
from runner.warehouse.postgres.join_sql import point_in_time_query
from runner.warehouse.postgres.types import interval

USER = JoinColumn("user_id", "int8")
ORDERS = JoinColumn("orders_7d", "int8")
SPINE = JoinSpine(
    query="select user_id, event_timestamp, label from spine_data.spine_purchase",
    columns=(USER, JoinColumn("event_timestamp", "timestamptz"), JoinColumn("label", "bool")),
    timestamp="event_timestamp",
    row="spine_row",
)


def _view(**changes: object) -> JoinView:
    values = {
        "name": "user_activity",
        "source": "feature_mart.user_activity",
        "keys": (("user_id", USER),),
        "timestamp": JoinColumn("event_timestamp", "timestamptz"),
        "created": JoinColumn("created_at", "timestamptz"),
        "features": (JoinFeature(ORDERS, "INT64", "user_activity__orders_7d"),),
        "tie_break": (),
        "ttl": timedelta(days=7),
        "knowledge_time": True,
        "is_indexed": True,
    }
    return JoinView(**{**values, **changes})  # type: ignore[arg-type]


BY_INDEX = """\
with spine as (
    select
        row_number() over () - 1 as "spine_row",
        "user_id",
        "event_timestamp",
        "label"
    from (
select user_id, event_timestamp, label from spine_data.spine_purchase
    ) as given
)
select
    spine."spine_row",
    spine."user_id" as "user_id",
    spine."event_timestamp",
    spine."label" as "label",
    v1.feature_1 as "user_activity__orders_7d"
from (select * from spine order by "spine_row" / 1000, "user_id", "event_timestamp") as spine
left join lateral (
    select
        source."orders_7d" as feature_1
    from feature_mart.user_activity as source
    where source."user_id" = spine."user_id"
      and source."event_timestamp" <= spine."event_timestamp"
      and source."event_timestamp" >= (spine."event_timestamp" - interval '604800 seconds')
      and source."created_at" <= spine."event_timestamp"
    order by source."event_timestamp" desc, source."created_at" desc
    limit 1
) as v1 on true"""

BY_MERGE = """\
with spine as (
    select
        row_number() over () - 1 as "spine_row",
        "user_id",
        "event_timestamp",
        "label"
    from (
select user_id, event_timestamp, label from spine_data.spine_purchase
    ) as given
),
v1_versions as materialized (
    select
        row_number() over (order by source."event_timestamp", source."created_at" nulls first, \
source."orders_7d" nulls first) as version,
        source."user_id" as key_1,
        source."event_timestamp" as stamp,
        greatest(source."event_timestamp", source."created_at") as known_at,
        source."orders_7d" as feature_1
    from feature_mart.user_activity as source
    where source."user_id" is not null
      and source."event_timestamp" <= (select max("event_timestamp") from spine)
      and source."created_at" is not null
),
v1_timeline as (
    select key_1, known_at as instant, version, null::bigint as spine_row
    from v1_versions
    union all
    select "user_id", "event_timestamp", null::bigint, "spine_row"
    from spine
    where "event_timestamp" is not null
),
v1_visible as (
    select
        spine_row,
        instant,
        max(version) over (partition by key_1 order by instant) as version
    from v1_timeline
),
v1_found as (
    select
        visible.spine_row,
        versions.feature_1
    from v1_visible as visible
    inner join v1_versions as versions on versions.version = visible.version
    where visible.spine_row is not null
      and versions.stamp >= visible.instant - interval '604800 seconds'
)
select
    spine."spine_row",
    spine."user_id" as "user_id",
    spine."event_timestamp",
    spine."label" as "label",
    v1.feature_1 as "user_activity__orders_7d"
from spine
left join v1_found as v1 on v1.spine_row = spine."spine_row"
order by spine."spine_row\""""


def _plain(sql: str) -> str:
    """Return `sql` without the digest in our names and without what ends it at a bad time."""
    without = sql.replace(alias_suffix(["feature_mart.user_activity"]), "")
    return re.sub(r"\n *and case when [^\n]* end$", "", without, flags=re.MULTILINE)


def test_with_an_index_each_row_descends_it_once() -> None:
    assert _plain(point_in_time_query(SPINE, [_view()], SPINE.columns, 1000)) == BY_INDEX


def test_without_an_index_both_sides_are_swept_once() -> None:
    view = _view(is_indexed=False, tie_break=(ORDERS,))
    assert _plain(point_in_time_query(SPINE, [view], SPINE.columns, 1000)) == BY_MERGE


def test_where_ties_are_possible_the_equally_new_rows_are_compared() -> None:
    sql = point_in_time_query(SPINE, [_view(tie_break=(ORDERS,))], SPINE.columns, 1000)
    assert "fetch first 1 row with ties" in sql
    assert 'order by source."orders_7d" desc nulls last' in sql


def test_types_without_an_order_are_compared_as_text_by_code_point() -> None:
    columns = (
        JoinColumn("j", "json"),
        JoinColumn("t", "text", is_array=True),
        JoinColumn("n", "numeric"),
    )
    sql = point_in_time_query(SPINE, [_view(tie_break=columns)], SPINE.columns, 1000)
    assert 'source."j"::text collate "C" desc nulls last' in sql
    assert 'source."t"::text[] collate "C" desc nulls last' in sql
    assert 'source."n" desc nulls last' in sql


def test_without_knowledge_time_a_missing_created_timestamp_is_oldest() -> None:
    sql = point_in_time_query(SPINE, [_view(knowledge_time=False)], SPINE.columns, 1000)
    assert 'source."created_at" desc nulls last' in sql
    assert 'source."created_at" <=' not in sql


def test_a_column_without_zone_is_compared_such_that_its_index_serves() -> None:
    view = _view(timestamp=JoinColumn("event_timestamp", "timestamp"))
    sql = point_in_time_query(SPINE, [view], SPINE.columns, 1000)
    assert """source."event_timestamp" <= (spine."event_timestamp" at time zone 'UTC')""" in _plain(
        sql
    )


def test_our_relations_have_names_that_the_source_cannot_have() -> None:
    for source in ("spine", 'U&"\\0073pine"', "v1_versions"):
        sql = point_in_time_query(SPINE, [_view(source=source)], SPINE.columns, 1000)
        name = re.match(r"with (spine_[0-9a-f]{12}) as \(", sql)
        assert name
        assert name[1] not in source
        assert f"from {source} as source" in sql


def test_an_interval_has_seconds_only() -> None:
    assert interval(timedelta(days=1)) == "interval '86400 seconds'"
    assert interval(timedelta(microseconds=1)) == "interval '0.000001 seconds'"

"""Column lineage: what a column's values come from, on both warehouses, and what cannot be told."""

import pytest

from runner.lineage.column_lineage import column_lineage
from runner.lineage.lineage_graph import LineageColumn
from runner.lineage.query_columns import Query
from runner.lineage.query_scopes import Unresolved

KNOWN = {("s", "k"): ["a", "b"]}  # of every other table the columns are not known


def origins(sql, column, dialect="postgres"):
    found = Query(sql, dialect, KNOWN.get).origins(column)
    return sorted(".".join([*origin.table, origin.column]) for origin in found)


def node(name, sql="", kind="model", schema="mart", parents=(), **more):
    return {
        "unique_id": f"{kind}.{name}",
        "resource_type": kind,
        "name": name,
        "alias": name,
        "database": "shop",
        "schema": schema,
        "columns": {},
        "compiled_code": sql,
        "depends_on": {"nodes": list(parents)},
        **more,
    }


def lineage(*nodes, adapter="postgres"):
    sources = [node("orders", kind="source", schema="raw_data", identifier="orders")]
    return column_lineage(
        {
            "metadata": {"adapter_type": adapter},
            "nodes": {each["unique_id"]: each for each in nodes},
            "sources": {each["unique_id"]: each for each in sources},
        }
    )


STAGING = """
    with source as (select * from {orders}),
    renamed as (select id as order_id, cast(amount as numeric) as amount_usd, status from source)
    select * from renamed
"""
MART = """
    with orders as (select * from {staging} where status <> 'cancelled')
    select order_id, sum(amount_usd) as spend, count(*) as orders_7d from orders group by 1
"""


@pytest.fixture(params=["postgres", "bigquery"])
def shop(request):
    quote = '"' if request.param == "postgres" else "`"
    tables = {
        name: ".".join(f"{quote}{part}{quote}" for part in parts)
        for name, parts in (
            ("orders", ("shop", "raw_data", "orders")),
            ("staging", ("shop", "mart", "stg")),
        )
    }
    return lineage(
        node("stg", STAGING.format(**tables), parents=["source.orders"]),
        node("mart", MART.format(**tables), parents=["model.stg"]),
        adapter=request.param,
    )


def test_a_feature_is_followed_through_staging_to_its_raw_column(shop):
    assert shop.raw_columns(LineageColumn("mart", "spend")) == ["raw_data.orders.amount"]
    assert shop.parents[LineageColumn("mart", "spend")] == (LineageColumn("stg", "amount_usd"),)


def test_a_raw_column_is_followed_to_everything_made_of_it(shop):
    found = shop.downstream(LineageColumn("raw_data.orders", "amount"))
    assert set(map(str, found[1:])) == {"stg.amount_usd", "mart.spend"}


def test_a_column_that_only_filters_is_no_origin_but_its_table_has_readers(shop):
    found = shop.downstream(LineageColumn("raw_data.orders", "status"))
    assert set(map(str, found[1:])) == {"stg.status"}
    assert shop.readers("raw_data.orders") == ["mart", "stg"]


def test_a_count_of_rows_comes_from_the_rows_it_counts(shop):
    assert shop.raw_columns(LineageColumn("mart", "orders_7d")) == ["raw_data.orders.*"]
    assert not shop.unresolved


def test_a_table_that_dbt_does_not_know_is_said_to_be_unknown():
    found = lineage(node("mart", "select x as y from other.place"))
    assert found.raw_columns(LineageColumn("mart", "y")) == []
    assert found.gaps(LineageColumn("mart", "y")) == {
        "other.place.x": "dbt does not know the table other.place"
    }


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"language": "python"}, "it is not SQL"),
        ({"compiled_code": None}, "dbt has not compiled it"),
        ({"compiled_code": "delete from x"}, "its SQL is no SELECT"),
        ({"compiled_code": "select from from"}, "its SQL cannot be read"),
        ({"compiled_code": "select * from x natural join y"}, "natural join"),
        ({"compiled_code": "with recursive r as (select 1) select * from r"}, "recursive"),
    ],
)
def test_a_dbt_model_that_cannot_be_read_is_said_so(more, reason):
    found = lineage(node("mart", **{"columns": {"y": {"name": "y"}}, **more}))
    assert reason in found.unresolved[LineageColumn("mart", "y")]


def test_a_described_column_that_the_sql_does_not_have_is_said_so():
    found = lineage(node("mart", "select 1 as x", columns={"y": {"name": "y"}}))
    assert found.unresolved[LineageColumn("mart", "y")] == "its SQL has no column y"


def test_an_incremental_model_that_filters_by_its_own_table_is_understood():
    sql = "select id from raw_data.orders where at > (select max(at) from shop.mart.inc)"
    found = lineage(node("inc", sql.replace("raw_data.", "shop.raw_data.")))
    assert found.raw_columns(LineageColumn("inc", "id")) == ["raw_data.orders.id"]


def test_an_ephemeral_dbt_model_lies_between_like_any_other():
    sql = "select id, sum(amount) as total from shop.raw_data.orders group by 1"
    found = lineage(
        node("sums", sql, config={"materialized": "ephemeral"}, parents=["source.orders"]),
        node(
            "mart",
            f"with __dbt__cte__sums as ({sql}), mine as (select * from __dbt__cte__sums) "
            "select m.total, count(*) as n from mine as m join __dbt__cte__sums as s using (id)",
            parents=["model.sums"],
        ),
    )
    assert found.parents[LineageColumn("mart", "total")] == (LineageColumn("sums", "total"),)
    assert found.parents[LineageColumn("mart", "n")] == (LineageColumn("sums", "*"),)
    assert found.raw_columns(LineageColumn("mart", "total")) == ["raw_data.orders.amount"]
    assert LineageColumn("mart", "total") in found.downstream(LineageColumn("sums", "total"))
    assert not found.unresolved


TIMES = ("dbt_valid_from", "dbt_valid_to", "dbt_updated_at")


def snapshot(sql, mart, **config):
    return lineage(
        node("past", sql, kind="snapshot", schema="kept", config=config),
        node("mart", f"select {mart} from shop.kept.past where dbt_valid_to is null"),
    )


@pytest.mark.parametrize(
    ("sql", "mart"),
    [
        ("select * from shop.raw_data.orders", f"amount, {', '.join(TIMES)}, dbt_scd_id"),
        ("select id, amount, changed from shop.raw_data.orders", "*"),
    ],
)
def test_a_snapshot_has_the_columns_of_its_sql_and_the_times_that_dbt_adds(sql, mart):
    found = snapshot(sql, mart, strategy="timestamp", updated_at="changed")
    for name in TIMES:
        assert found.raw_columns(LineageColumn("mart", name)) == ["raw_data.orders.changed"]
    assert found.raw_columns(LineageColumn("mart", "amount")) == ["raw_data.orders.amount"]
    assert found.gaps(LineageColumn("mart", "amount")) == {}
    assert found.gaps(LineageColumn("mart", "dbt_scd_id")) == {
        "past.dbt_scd_id": "dbt's snapshot computes it"
    }


@pytest.mark.parametrize(
    "config",
    [
        {"strategy": "check", "snapshot_meta_column_names": {"dbt_valid_from": "since"}},
        {
            "strategy": "timestamp",
            "updated_at": "coalesce(a, b)",
            "snapshot_meta_column_names": {"dbt_valid_from": "since", "dbt_valid_to": None},
        },
    ],
)
def test_times_of_a_snapshot_that_are_no_column_are_said_to_be_computed(config):
    found = snapshot("select * from shop.raw_data.orders", "since", **config)
    assert found.gaps(LineageColumn("mart", "since")) == {
        "past.since": "dbt's snapshot computes it"
    }


def test_versions_of_a_dbt_model_are_told_apart():
    found = lineage(
        {
            **node("mart_v1", "select a as x from shop.raw_data.orders"),
            "name": "mart",
            "version": 1,
        },
        {
            **node("mart_v2", "select b as x from shop.raw_data.orders"),
            "name": "mart",
            "version": 2,
        },
        node("top", "select x from shop.mart.mart_v2"),
    )
    assert found.raw_columns(LineageColumn("mart", "x")) == ["raw_data.orders.a"]
    assert found.parents[LineageColumn("top", "x")] == (LineageColumn("mart_v2", "x"),)


def test_a_seed_is_raw():
    found = lineage(
        node("rates", kind="seed", schema="raw_data"),
        node("mart", "select rate from shop.raw_data.rates", parents=["seed.rates"]),
    )
    assert found.raw_columns(LineageColumn("mart", "rate")) == ["raw_data.rates.rate"]
    assert found.readers("raw_data.rates") == ["mart"]


def test_raw_tables_of_one_name_in_two_databases_are_told_apart():
    found = lineage(
        node("orders_too", kind="seed", schema="raw_data", alias="orders", database="archive"),
        node("mart", "select a.x, b.y from shop.raw_data.orders a join archive.raw_data.orders b"),
    )
    assert found.raw_columns(LineageColumn("mart", "x")) == ["shop.raw_data.orders.x"]
    assert found.raw_columns(LineageColumn("mart", "y")) == ["archive.raw_data.orders.y"]


def test_what_dbt_has_disabled_has_no_columns_and_is_said_to_be_disabled():
    found = column_lineage(
        {
            "metadata": {"adapter_type": "postgres"},
            "nodes": {"model.mart": node("mart", "select x, y from shop.raw_data.old")},
            "sources": {},
            "disabled": {
                "source.old": [node("old", kind="source", schema="raw_data", identifier="old")],
                "model.off": [node("off", "select 1 as x")],
                "test.off": [{**node("t", kind="test"), "resource_type": "test"}],
            },
        }
    )
    assert found.gaps(LineageColumn("mart", "x")) == {
        "raw_data.old.x": "raw_data.old is disabled in dbt"
    }
    assert found.disabled == {"raw_data.old", "off"}
    assert LineageColumn("off", "x") not in found.parents


def test_what_takes_all_of_a_raw_table_may_have_more_columns_than_are_named():
    found = lineage(
        node("all", "select * from shop.raw_data.orders"),
        node("some", "select id from shop.mart.all"),
        node("py", language="python"),
    )
    assert found.open == {"raw_data.orders", "all", "py"}


def test_readers_of_which_nothing_or_a_column_cannot_be_told_are_named():
    found = lineage(
        node("py", language="python", parents=["source.orders"], columns={"y": {"name": "y"}}),
        node("after", "select y from shop.mart.py", parents=["model.py"]),
        node(
            "part",
            "select id, to_jsonb(o.*) as j from shop.raw_data.orders o",
            parents=["source.orders"],
        ),
        node("clear", "select id from shop.raw_data.orders", parents=["source.orders"]),
    )
    assert found.unresolved_readers("raw_data.orders") == {
        "part.j": "a whole row is taken",
        "py.*": "it is not SQL",
    }
    assert found.unresolved_readers("part") == {}


@pytest.mark.parametrize(
    ("sql", "column", "expected"),
    [
        ("select a + b as c from s.k", "c", ["s.k.a", "s.k.b"]),
        ("select 1 as c from s.k", "c", []),
        ("select case when a > 1 then b end as c from s.k", "c", ["s.k.a", "s.k.b"]),
        ("select * from s.k", "b", ["s.k.b"]),
        ("select * from s.t", "anything", ["s.t.anything"]),
        ("select k.a, c from s.k cross join s.t", "c", ["s.t.c"]),
        ("select t.*, k.a as c from s.t as t cross join s.k as k", "c", ["s.k.a"]),
        ("select a from s.k union all select b from s.k", "a", ["s.k.a", "s.k.b"]),
        ("select x as c from (select a, b from s.k) as u(x, y)", "c", ["s.k.a"]),
        ("select a from s.k join s.t using (a)", "a", ["s.k.a", "s.t.a"]),
        ("with r(n, m) as (select a, b from s.k) select m as c from r", "c", ["s.k.b"]),
        ("select (select max(k.b) from s.k where k.a = t.id) as c from s.t", "c", ["s.k.b"]),
        ("select sum(a) over (partition by b order by b) as c from s.k", "c", ["s.k.a"]),
        ("select row_number() over w as c from s.k window w as (order by b)", "c", ["s.k.b"]),
        ("select count(*) over (partition by b) as c from s.k", "c", ["s.k.*"]),
        ("select sum(1) over (partition by b) as c from s.k", "c", ["s.k.*"]),
        ("select rank() over (order by count(*)) as c from s.k group by a", "c", ["s.k.*"]),
        ("select count(u.*) as c from (select a from s.k) as u", "c", ["s.k.*"]),
        ("select exists(select * from s.k where k.a = t.x) as c from s.t", "c", ["s.k.*"]),
        ("select count(*) filter (where a > 1) as c from s.k", "c", ["s.k.*", "s.k.a"]),
        ("select g as c from s.k cross join generate_series(a, b) as g", "c", ["s.k.a", "s.k.b"]),
        (
            "select x.c from s.k cross join lateral (select k.a + t.z as c from s.t) as x",
            "c",
            ["s.k.a", "s.t.z"],
        ),
    ],
)
def test_values_are_followed_through_postgresql(sql, column, expected):
    assert origins(sql, column) == expected


@pytest.mark.parametrize(
    ("sql", "column", "expected"),
    [
        ("select * except (a) from s.k", "b", ["s.k.b"]),
        ("select * replace (a + 1 as b) from s.k", "b", ["s.k.a"]),
        ("select field.inner as c from s.t", "c", ["s.t.field"]),
        ("select item.price as c from s.t cross join unnest(t.items) as item", "c", ["s.t.items"]),
        ("select timestamp_diff(a, b, microsecond) as c from s.k", "c", ["s.k.a", "s.k.b"]),
        ("select i as c from s.t, unnest(t.xs) as x with offset as i", "c", ["s.t.xs"]),
        ("select timestamp_trunc(x, day) as c from s.t", "c", ["s.t.x"]),
        (
            "select d as c from s.k, unnest(generate_timestamp_array(a, b, interval 1 day)) as d",
            "c",
            ["s.k.a", "s.k.b"],
        ),
    ],
)
def test_values_are_followed_through_bigquery(sql, column, expected):
    assert origins(sql, column, "bigquery") == expected


@pytest.mark.parametrize(
    ("sql", "column", "reason"),
    [
        ("select c from s.t cross join s.u", "c", "c may be a column of t or u"),
        ("select * from s.t cross join s.u", "c", "several `*`"),
        ("select * from s.t union all select * from s.k", "a", "not known"),
        ("select * except (a) from s.k", "a", "no column a"),
        ("select x from s.k as u(x)", "x", "renamed"),
        ("select a in (select * from s.t) as c from s.k", "c", "not known"),
        ("select to_jsonb(t.*) as c from s.t", "c", "whole row"),
        ("select row_to_json(t) as c from s.t", "c", "whole row"),
        ("select x.c from s.k", "c", "of nothing in its from clause"),
    ],
)
def test_what_cannot_be_told_is_not_guessed(sql, column, reason):
    with pytest.raises(Unresolved, match=reason.replace("`*`", "")):
        origins(sql, column)

"""When is a feature another one? By the SQL that it is computed from, and not by how that looks."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from runner.lineage.feature_definitions import DbtQuery, Definitions, definitions_of
from runner.project.relations import FeatureMart, MartColumn

STAGING = """
with source as (select * from "dev_raw"."orders"),
renamed as (select id as order_id, user_id, cents / 100.0 as amount, country, paid_at from source)
select * from renamed
"""
MART = """
with orders as (select * from "dev_staging"."stg_orders" where country <> 'test'),
per_user as (
    select user_id, paid_at as event_timestamp, sum(amount) as spend, count(*) as n_orders
    from orders group by 1, 2
)
select * from per_user
"""


def node(name, sql, schema, parents=(), **more):
    return {
        "resource_type": "model",
        "name": name,
        "unique_id": f"model.shop.{name}",
        "relation_name": f'"{schema}"."{name}"',
        "raw_code": sql,
        "compiled_code": sql,
        "depends_on": {"nodes": list(parents)},
        "config": {},
        **more,
    }


def definitions(
    mart=MART, staging=STAGING, schema="dev", features=None, macros=None, compiled=None, **contract
):
    relation = f'"{schema}_raw"."orders"'
    nodes = [
        node("stg_orders", staging, f"{schema}_staging", ["source.shop.app.orders"]),
        node(
            "activity",
            mart,
            f"{schema}_mart",
            ["model.shop.stg_orders"],
            compiled_code=compiled or mart,
        ),
    ]
    content = {
        "metadata": {"adapter_type": "postgres"},
        "nodes": {each["unique_id"]: each for each in nodes},
        "sources": {
            "source.shop.app.orders": {"resource_type": "source", "relation_name": relation}
        },
        "macros": macros or {},
    }
    dtypes = features or {"spend": "float64", "n_orders": "int64"}
    columns = {"user_id": "int64", "event_timestamp": "timestamp", **dtypes}
    view = FeatureMart(
        name="activity",
        database="shop",
        schema=schema,
        alias="activity",
        description="",
        file="activity.yml",
        owner="",
        tags=(),
        entities={"user": "user_id"},
        columns={name: MartColumn(name, dtype, "") for name, dtype in columns.items()},
        compiled_code=None,
        ttl=timedelta(days=30),
        timestamp_field="event_timestamp",
        created_timestamp_column=None,
        online=True,
    )
    return definitions_of(content, [replace(view, **contract)])


BEFORE = definitions()


def changed(after):
    return {name for name in ("spend", "n_orders") if BEFORE.changes(after, "activity", name)}


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (definitions(MART.replace("with", "-- a comment\nWITH").replace(" as ", "\n  AS ")), set()),
        (
            definitions(
                MART.replace("dev_", "prod_"), STAGING.replace("dev_", "prod_"), schema="prod"
            ),
            set(),
        ),
        (definitions(MART.replace("sum(amount)", "1000 * sum(amount)")), {"spend"}),
        (definitions(staging=STAGING.replace("/ 100.0", "/ 1.0")), {"spend"}),
        (definitions(MART.replace("<> 'test'", "is not null")), {"spend", "n_orders"}),
        (definitions(ttl=timedelta(days=7)), {"spend", "n_orders"}),
        (definitions(features={"spend": "float32", "n_orders": "int64"}), {"spend"}),
        (definitions(features={"n_orders": "int64"}), {"spend"}),
    ],
    ids=[
        "layout and comments",
        "the schemas of another developer",
        "the unit",
        "a unit in a dbt model below",
        "which rows there are",
        "how long rows are valid",
        "a type",
        "a name",
    ],
)
def test_a_feature_changes_with_what_it_is_computed_from(after, expected):
    assert changed(after) == expected


def test_a_feature_more_in_a_mart_changes_no_other():
    mart = MART.replace("count(*)", "max(country) as last_country, count(*)")
    staging = STAGING.replace("country, paid_at", "country, paid_at, channel")
    assert changed(definitions(mart, staging)) == set()
    assert definitions(mart, staging).digests("activity") == BEFORE.digests("activity")


@pytest.mark.parametrize(
    "mart",
    [
        MART.replace("sum(amount)", "sum(distinct amount)"),
        MART.replace("group by 1, 2", "group by 1, 2 having count(*) > 1"),
        MART.replace("select * from per_user", "select * from per_user limit 5"),
        MART.replace("select user_id, paid_at", "select distinct user_id, paid_at"),
        MART.replace(
            "select user_id, paid_at", "select generate_series(1, 2) as k, user_id, paid_at"
        ),
        MART.replace("from orders group", "from orders cross join (values (1), (2)) as v group"),
    ],
)
def test_no_change_of_rows_or_values_goes_unseen(mart):
    assert "spend" in changed(definitions(mart))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # A branch's columns are taken by position, a row by the name of its table.
        (
            "select user_id, a as spend from t union all select user_id, b from t",
            "select user_id, a as spend from t union all select user_id, c from t",
        ),
        (
            "select user_id, to_json(o) as spend from (select user_id, a from t) as o",
            "select user_id, to_json(o) as spend from (select user_id, a, b from t) as o",
        ),
        (
            "select user_id, spend from t where user_id in (select * from (select a from u) as x)",
            "select user_id, spend from t where user_id in (select * from (select b from u) as x)",
        ),
        (
            "select user_id, (select max(x.a) from (select a from u) as x) as spend from t",
            "select user_id, (select max(x.a) from (select b as a from u) as x) as spend from t",
        ),
        (
            "with o(k, spend) as (select a, b from t) select k as user_id, spend from o",
            "with o(k, spend) as (select a, c from t) select k as user_id, spend from o",
        ),
        (
            "select user_id, count(*) as spend from (select max(a) as m, 1 as user_id from t) as o",
            "select user_id, count(*) as spend from (select 1 as user_id from t) as o",
        ),
    ],
)
def test_what_is_used_without_its_name_counts(before, after):
    features = {"spend": "float64"}
    one, other = (definitions(sql, features=features) for sql in (before, after))
    assert one.changes(other, "activity", "spend")


def test_a_diff_shows_what_changed():
    after = definitions(MART.replace("sum(amount)", "1000 * sum(amount)"))
    assert BEFORE.changes(after, "activity", "spend") == [
        "- SUM(amount) AS spend",
        "+ 1000 * SUM(amount) AS spend",
    ]


def test_what_the_clock_decides_is_compared_as_it_is_written():
    def compiled(day, macro="x"):
        sql = "select user_id, {{ run_started_at }} {{ today() }} as spend from t"
        macros = {"today": {"name": "today", "package_name": "shop", "macro_sql": macro}}
        return definitions(sql, macros=macros, compiled=f"select user_id, '{day}' as spend from t")

    assert not compiled("monday").changes(compiled("tuesday"), "activity", "spend")
    assert compiled("monday").changes(compiled("monday", "y"), "activity", "spend")


def test_definitions_outlive_the_file_they_are_kept_in():
    again = Definitions.load(json.loads(json.dumps(BEFORE.dump())))
    assert again == BEFORE
    assert again.digests("activity") == BEFORE.digests("activity")
    assert Definitions.load({"format_version": 99}) is None


def test_on_bigquery_tables_are_named_as_in_dbt_too():
    def compiled(prefix, expression="amount"):
        table = f"`my-project`.`{prefix}raw_events`.`orders`"
        query = DbtQuery(
            f"select user_id, {expression} as spend, safe_cast(x as int64) as n from {table} "
            "where paid_at >= timestamp_sub(current_timestamp(), interval 30 day)",
            {table: "source.app.orders"},
        )
        view = replace(BEFORE.views["activity"], query="model.activity")
        return Definitions("bigquery", {"activity": view}, {"model.activity": query})

    assert not compiled("").changes(compiled("dev_"), "activity", "spend")
    assert compiled("").changes(compiled("", "amount * 1000"), "activity", "spend")

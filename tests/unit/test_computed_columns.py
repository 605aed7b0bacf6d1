"""What a recipe computes: days since a time, parts of the asked instant, derived values."""

from __future__ import annotations

import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contract.columns import float_column, time_column
from contract.computation import Computation
from contract.computed import ComputedColumn
from contract.time_rules import load_zone, zone_names
from runner.errors import RunnerError
from runner.modelling.model_inputs import ModelColumn, model_columns, model_inputs, with_computed
from runner.recipes.computed_columns import computed_columns
from runner.recipes.recipe import load_recipe
from runner.recipes.references import check_references
from tests.recipe_files import recipe_text
from tests.unit.test_recipe_references import manifest

FEATURES = 'features: ["user_activity:*", "user_demographics:*"]'


@pytest.fixture(name="read")
def _read(tmp_path):
    def read(more, features=FEATURES):
        path = tmp_path / "rf.yaml"
        path.write_text(recipe_text({7: features}) + more)
        recipe = load_recipe(path)
        check_references(recipe, manifest())
        return recipe

    return read


@pytest.fixture(name="refusal")
def _refusal(read, tmp_path):
    def refuse(more, features=FEATURES):
        with pytest.raises(RunnerError) as refused:
            read(more, features)
        return refused.value.message.replace(f"{tmp_path}/", ""), refused.value.hint

    return refuse


def names(recipe):
    return [column.name for column in computed_columns(recipe, manifest())]


def test_a_time_is_the_days_since_then_of_a_feature_and_of_a_request_input(read):
    recipe = read("request: [opened_at]\n".replace("opened_at", "segment"))
    assert names(recipe) == ["user_activity__days_since_last_order_at"]
    [column] = computed_columns(recipe, manifest())
    assert column.expression == [
        "days_between",
        ["column", "event_timestamp"],
        ["column", "user_activity__last_order_at"],
    ]


def test_computed_columns_follow_each_other_as_the_recipe_says(read):
    more = """
asked_at: [weekday, hour]
time_zone: Europe/Berlin
derived:
  is_evening: asked_at_hour >= 18
  orders_per_day: user_activity.orders_7d / 7
  active: case when is_evening then orders_per_day end
  recency: least(days_since_last_order_at, 30)
  home: coalesce(user_demographics__country, 'NL')
"""
    recipe = read(more)
    assert names(recipe) == [
        "user_activity__days_since_last_order_at",
        *("asked_at_weekday", "asked_at_hour"),
        *("is_evening", "orders_per_day", "active", "recency", "home"),
    ]
    dtypes = {column.name: column.dtype for column in computed_columns(recipe, manifest())}
    assert (dtypes["is_evening"], dtypes["active"], dtypes["home"]) == (
        *("bool", "float64", "string"),
    )
    assert recipe.dump()["time_zone"] == "Europe/Berlin"
    assert load_recipe(recipe.path).dump() == recipe.dump()


def test_a_recipe_that_computes_nothing_is_dumped_as_before(read):
    dumped = read("", 'features: ["calendar:*"]').dump()
    assert not {"asked_at", "time_zone", "derived"} & dumped.keys()


@pytest.mark.parametrize(
    ("more", "said", "hint"),
    [
        (
            "derived:\n  x: oders_7d / 7",
            "18:3: derived.x: there is no column 'oders_7d' (did you mean 'orders_7d'?)",
            "use features",
        ),
        ("derived:\n  x: last_order_at", "last_order_at is a time", "days_since_last_order_at"),
        ("derived:\n  x: y + 1\n  y: orders_7d", "'y' is not computed yet", "move it up"),
        ("derived:\n  x: x + 1", "'x' is not computed yet", "no value can use itself"),
        ("derived:\n  x: count(orders_7d)", "'COUNT(orders_7d)' is not allowed", "allowed are"),
        ("derived:\n  user_id: orders_7d", "user_id (orders_7d) is also the column", "rename"),
        ("derived:\n  is_purchase_7d: orders_7d", "is also the column is_purchase_7d", "rename"),
        (
            "derived:\n  user_activity__orders_7d: age",
            "is also the feature user_activity__orders_7d",
            "rename",
        ),
        ("asked_at: [hour]\nderived:\n  asked_at_hour: age", "is also computed: hour", "rename"),
        ("derived:\n  a b: age", "18:3: derived.'a b': expected a name of letters", "rename"),
        ("derived:\n  x: 3", "derived.x: expected text, got 3", "docs/recipe.md"),
        ("asked_at: [hour, hour]", "asked_at[1]: 'hour' is listed twice", "once"),
        ("asked_at: [minute]", "asked_at[0]: expected 'hour' or 'weekday', got 'minute'", ""),
        ("time_zone: Europe/Berlin", "17:1: time_zone: is only for asked_at", "asked_at: [hour]"),
        (
            "asked_at: [hour]\ntime_zone: Europe/Berlni",
            "no time zone 'Europe/Berlni' (did you mean 'Europe/Berlin'?)",
            "IANA",
        ),
        ("asked_at: [hour]\ntime_zone: ../../etc/passwd", "no time zone", "IANA"),
    ],
)
def test_what_cannot_be_computed_is_refused_with_its_place(refusal, more, said, hint):
    message, told = refusal(more)
    assert said in message
    assert hint in told
    assert message.startswith("rf.yaml:1")


def test_a_short_name_of_two_features_is_refused_with_both(refusal):
    features = 'features: ["user_demographics:*", "user_activity:*"]'
    twice = manifest()
    mart = twice.marts["user_activity"]
    mart.columns["age"] = twice.marts["user_demographics"].columns["age"]
    try:
        message, hint = refusal("derived:\n  x: age + 1", features)
    finally:
        del mart.columns["age"]
    assert "'age' may be one of several columns" in message
    assert hint == "write user_demographics.age or user_activity.age"


def test_problems_of_derived_values_wait_for_missing_marts(refusal):
    message, _ = refusal("derived:\n  x: nothing + 1", 'features: ["other:*"]')
    assert "derived" not in message


def test_checking_a_recipe_without_derived_values_does_not_load_sqlglot():
    code = (
        "import sys, runner.recipes.references, contract.scoring; "
        "sys.exit('sqlglot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- the rules of time

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS = st.integers(-70 * 365 * 86_400 * 10**6, 230 * 365 * 86_400 * 10**6)
_CHANGE = st.integers(-36 * 3600, 36 * 3600).map(lambda s: (1_774_746_000 + s) * 10**6)
INSTANTS = (_YEARS | _CHANGE).map(lambda us: EPOCH + timedelta(microseconds=us))
"""Anything from 1900 to 2200, and instants near a change of the clock in Berlin."""


def time_computation(zone="Europe/Berlin"):
    asked = ["column", "event_timestamp"]
    return Computation(
        [
            ComputedColumn("days", "float64", ["days_between", asked, ["column", "then"]]),
            ComputedColumn("hour", "float64", ["calendar", "hour", zone, asked]),
            ComputedColumn("weekday", "float64", ["calendar", "weekday", zone, asked]),
        ],
        {"then": "timestamp"},
    )


@given(
    asked=st.lists(INSTANTS, min_size=1, max_size=5),
    then=INSTANTS | st.none(),
    zone=st.sampled_from(
        ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu"]
    ),
    unit=st.sampled_from(["us", "ns"]),
)
@example([datetime(2026, 3, 29, 0, 59, 59, 999_999, UTC)], None, "Europe/Berlin", "us")
@example([datetime(2026, 10, 25, 1, 0, tzinfo=UTC)], None, "Europe/Berlin", "ns")
@example(
    [datetime(1969, 12, 31, 23, 59, 59, 1, UTC)], datetime(1969, 1, 1, 0, 0, 0, 1, UTC), "UTC", "us"
)
def test_row_and_column_agree_with_pandas_over_changes_of_the_clock(asked, then, zone, unit):
    computation = time_computation(zone)
    rows = [computation.row([then], instant)[1:] for instant in asked]
    kind = pa.timestamp(unit, "UTC")
    columns = computation.columns(
        {
            "then": pa.chunked_array([pa.array([then] * len(asked), kind)]),
            "event_timestamp": pa.chunked_array([pa.array(asked, kind)]),
        }
    )
    stamps = pd.DatetimeIndex(asked).tz_convert(ZoneInfo(zone))
    assert columns["hour"].tolist() == [row[1] for row in rows] == stamps.hour.tolist()
    assert columns["weekday"].tolist() == [row[2] for row in rows]
    assert columns["weekday"].tolist() == (stamps.dayofweek + 1).tolist()
    days = [None if math.isnan(day) else day for day in columns["days"].tolist()]
    assert days == [row[0] for row in rows]
    if then is not None:
        for instant, day in zip(asked, days, strict=True):
            assert day == pytest.approx((instant - then) / timedelta(days=1), abs=1.2e-5)


def test_instants_are_cut_to_whole_seconds_on_both_sides_and_the_future_is_negative():
    computation = time_computation()
    asked = datetime(2026, 1, 2, 0, 0, 0, 999_999, UTC)
    assert computation.row([datetime(2026, 1, 1, tzinfo=UTC)], asked)[1] == 1.0
    assert computation.row([datetime(2026, 1, 3, 0, 0, 0, 1, UTC)], asked)[1] == -1.0
    other = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert computation.row([other], asked)[1] == 1.0


@pytest.mark.parametrize(
    "column",
    [
        [datetime(1969, 12, 31, 23, 59, 59, 5, UTC), None],
        pd.Series([datetime(1969, 12, 31, 23, 59, 59, 5, UTC), None], dtype="datetime64[ns, UTC]"),
        pa.array([datetime(1969, 12, 31, 23, 59, 59, 5, UTC), None], pa.timestamp("us", "UTC")),
        pa.array([-1, None], pa.timestamp("ns")),
    ],
)
def test_times_of_any_library_are_whole_seconds_rounded_down(column):
    np.testing.assert_array_equal(time_column(column), [-1, np.nan])


def test_a_decimal_is_the_float_that_a_client_would_send():
    cents = [Decimal(number) / 100 for number in range(0, 1_000_000, 37)]
    column = pa.chunked_array([pa.array([*cents, None], pa.decimal128(12, 2))])
    assert float_column(column)[:-1].tolist() == [float(str(number)) for number in cents]
    assert np.isnan(float_column(column)[-1])


def test_zones_come_from_the_package_not_from_the_machine(monkeypatch):
    monkeypatch.setattr("zoneinfo.TZPATH", ())
    assert "Europe/Berlin" in zone_names()
    moment = datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert moment.astimezone(load_zone("Europe/Berlin")).hour == 14
    assert load_zone("Europe/Berlin").key == ZoneInfo("Europe/Berlin").key


# --- the training table


def test_computed_columns_follow_in_the_training_table_and_are_model_inputs():
    table = pa.table(
        {
            "event_timestamp": pa.array([datetime(2026, 1, 3, tzinfo=UTC)] * 2),
            "v__a": pa.array([2, None], pa.int64()),
            "v__then": pa.array([datetime(2026, 1, 1, tzinfo=UTC), None]),
        }
    )
    sources = [ModelColumn("v__a", "int64"), ModelColumn("v__then", "timestamp")]
    since = ["days_between", ["column", "event_timestamp"], ["column", "v__then"]]
    computed = [
        ComputedColumn("v__days_since_then", "float64", since),
        ComputedColumn("is_big", "bool", ["less", ["literal", 1.0], ["column", "v__a"]]),
        ComputedColumn(
            "word",
            "string",
            ["case", ["column", "is_big"], ["literal", "big"], ["null", "text"]],
        ),
    ]
    whole = with_computed(table, sources, computed)
    assert whole.to_pylist()[0]["v__days_since_then"] == 2.0
    assert whole["is_big"].to_pylist() == [True, None]
    assert whole["word"].to_pylist() == ["big", None]
    columns = model_columns(sources, computed)
    assert [column.column for column in columns] == [
        *("v__a", "v__days_since_then", "is_big", "word"),
    ]
    X = model_inputs(whole, columns)
    assert X["word"].tolist() == ["big", ""]
    np.testing.assert_array_equal(X["is_big"], np.array([1, np.nan], dtype=np.float32))

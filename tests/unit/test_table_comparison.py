"""Which rows and columns of two training tables differ, to the row."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.commands.models.table_comparison import compare_tables
from runner.errors import RunnerError

START = datetime(2026, 1, 1, tzinfo=UTC)
NAN = float("nan")


def table(*rows):
    """Rows of (user_id, day, label, x)."""
    users, days, labels, values = zip(*rows, strict=True) if rows else ((), (), (), ())
    stamps = [START + timedelta(days=day) for day in days]
    return pa.table(
        {
            "user_id": pa.array(users, pa.int64()),
            "event_timestamp": pa.array(stamps, pa.timestamp("us", "UTC")),
            "y": pa.array(labels, pa.int64()),
            "v__x": pa.array(values, pa.float64()),
        }
    )


def account(then, now):
    return compare_tables(then, now, ["user_id"]).account


THEN = table((1, 0, 0, 0.5), (1, 1, 1, None), (2, 1, 0, NAN))


def test_equal_tables_have_nothing_to_tell_but_that():
    assert account(THEN, THEN) == ["the 3 recorded rows are all there unchanged"]


def test_the_order_of_rows_makes_no_difference():
    assert account(THEN, THEN.take([2, 0, 1])) == account(THEN, THEN)


def test_rows_that_time_brought_are_told_apart_from_rows_that_changed():
    now = pa.concat_tables([THEN, table((1, 2, 0, 1.0), (3, 3, 0, 1.0))])
    assert account(THEN, now) == [
        "the spine has 2 more rows now, later than every recorded one",
        "the 3 recorded rows are all there unchanged",
    ]


def test_rows_that_came_late_are_said_to_lie_in_between():
    now = pa.concat_tables([table((9, 0, 0, 1.0)), THEN, table((1, 2, 0, 1.0))])
    assert "2 more rows now, 1 of them later than every recorded one" in account(THEN, now)[0]


def test_a_row_that_came_late_is_said_to_lie_in_between():
    now = pa.concat_tables([THEN, table((9, 0, 0, 1.0))])
    late = "the spine has 1 more row now, none of them later than every recorded one"
    assert account(THEN, now)[0] == late


def test_rows_that_are_gone_are_counted():
    assert account(THEN, THEN.slice(1)) == [
        "1 of the 3 recorded rows are gone",
        "the 2 recorded rows that are left are all there unchanged",
    ]


def test_changed_values_are_counted_by_column():
    now = table((1, 0, 1, 0.5), (1, 1, 0, 0.0), (2, 1, 0, NAN))
    assert account(THEN, now) == ["2 of the 3 recorded rows changed: y in 2, v__x in 1"]


@pytest.mark.parametrize("value", [None, 0.0])
def test_a_null_is_neither_nan_nor_a_number(value):
    now = table((1, 0, 0, 0.5), (1, 1, 1, None), (2, 1, 0, value))
    assert account(THEN, now) == ["1 of the 3 recorded rows changed: v__x in 1"]


def test_rows_of_the_same_key_and_time_are_told_apart_by_their_order():
    then = table((1, 0, 0, 1.0), (1, 0, 0, 2.0))
    now = table((1, 0, 0, 1.0), (1, 0, 0, 3.0), (1, 0, 0, 4.0))
    found = compare_tables(then, now, ["user_id"])
    assert (found.new, found.gone, found.changed) == (1, 0, {"v__x": 1})


def test_columns_that_came_went_or_have_another_type_are_named():
    now = THEN.drop_columns(["v__x"]).append_column("v__new", pa.array([1, 2, 3]))
    now = now.set_column(2, "y", now["y"].cast(pa.int32()))
    assert account(THEN, now) == [
        "column v__x is gone",
        "column v__new is new",
        "column y is int32 now, it was int64",
        "the 3 recorded rows are unchanged in every other column",
    ]


def test_a_null_key_is_a_key():
    then = table((None, 0, 0, 1.0), (None, 1, 0, 1.0))
    assert account(then, then) == ["the 2 recorded rows are all there unchanged"]


def test_other_keys_are_refused():
    now = THEN.set_column(0, "user_id", THEN["user_id"].cast(pa.string()))
    with pytest.raises(RunnerError, match="user_id was int64 and is string now"):
        account(THEN, now)
    with pytest.raises(RunnerError, match="user_id was int64 and is not there now"):
        account(THEN, THEN.drop_columns(["user_id"]))


ROWS = st.dictionaries(
    st.tuples(st.integers(1, 4), st.integers(0, 3)),
    st.sampled_from([None, NAN, 0.0, 1.0]),
    max_size=16,
)


def same(a, b):
    return repr(a) == repr(b)  # NaN is itself here


@given(ROWS, ROWS)
def test_every_row_is_new_gone_changed_or_unchanged_as_a_dictionary_says(then, now):
    tables = [table(*((*key, 0, x) for key, x in rows.items())) for rows in (then, now)]
    found = compare_tables(*tables, ["user_id"])
    both = then.keys() & now.keys()
    assert found.new == len(now.keys() - then.keys())
    assert found.gone == len(then.keys() - now.keys())
    assert found.changed_rows == sum(not same(then[key], now[key]) for key in both)

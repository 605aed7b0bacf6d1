"""The demo shop's simulation, in memory."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.shop.arrival import DAY, WEEK, arrive
from examples.shop.ledger import Ledger
from examples.shop.process import purchase_probability
from examples.shop.simulation import LATEST_ORDER, simulate
from examples.shop.tables import raw_tables
from examples.shop.users import Profiles, visible_rows

END = datetime(2025, 6, 30, tzinfo=UTC)
AVERAGE = {
    "category_views_7d": [1],
    "category_views_30d": [2],
    "category_carts_7d": [0],
    "category_orders_30d": [0],
    "user_orders_30d": [1],
    "age_years": [40],
    "country": np.array(["FR"]),
    "device": np.array(["tablet"]),
    "is_subscriber": [False],
}


@pytest.fixture(scope="module")
def shop():
    return simulate(users=200, days=70, seed=3)


@pytest.fixture(scope="module")
def tables(shop):
    return raw_tables(shop, END)


def probability(**changes):
    return float(purchase_probability(**{**AVERAGE, **changes})[0])


def test_the_same_options_give_the_same_rows(tables):
    again = raw_tables(simulate(users=200, days=70, seed=3), END)
    assert all(again[name].equals(tables[name]) for name in tables)


def test_another_seed_gives_other_rows(tables):
    other = raw_tables(simulate(users=200, days=70, seed=4), END)
    assert not other["events"].equals(tables["events"])


def test_another_end_only_shifts_the_times(shop, tables):
    later = raw_tables(shop, END + timedelta(days=3))
    for name, table in tables.items():
        for column in table.column_names:
            expected = table[column]
            if column.endswith("_at"):
                expected = pc.add(expected, timedelta(days=3))
            assert later[name][column].equals(expected), (name, column)


def test_nothing_arrives_before_it_happens_or_after_the_end(tables):
    for name, happened in {
        "users": "updated_at",
        "events": "occurred_at",
        "orders": "ordered_at",
        "recommendations": "recommended_at",
    }.items():
        assert pc.all(pc.greater_equal(tables[name]["loaded_at"], tables[name][happened])).as_py()
        assert pc.max(tables[name]["loaded_at"]).as_py() <= END


@pytest.mark.parametrize("users", [1, 2])
def test_a_shop_of_hardly_any_users_has_every_table(users):
    tables = raw_tables(simulate(users=users, days=30, seed=7), END)
    assert tables["users"].num_rows >= users


def test_some_rows_arrive_days_late_and_are_corrected_and_tie(shop):
    lateness = shop.events.loaded_at - shop.events.occurred_at
    assert 0.002 < np.mean(lateness > DAY) < 0.03
    _, versions = np.unique(shop.orders.order, return_counts=True)
    assert (versions > 1).any()
    assert len(np.unique(shop.orders.order)) < len(shop.orders.order)
    moments = np.stack([shop.events.user, shop.events.occurred_at])
    assert np.unique(moments, axis=1).shape[1] < moments.shape[1]


def test_some_users_have_no_history_and_some_values_are_missing(shop, tables):
    assert len(np.unique(shop.events.user)) < 200
    assert all(tables["users"][name].null_count for name in ("age", "country", "device"))
    assert tables["events"]["category_id"].null_count


def test_saturdays_are_busier_than_mondays(shop):
    weekday = shop.events.occurred_at // DAY % 7
    assert np.sum(weekday == 5) > 1.1 * np.sum(weekday == 0)


def test_orders_arrive_before_the_label_is_taken_as_known(shop):
    first = np.unique(shop.orders.order, return_index=True)[1]
    assert np.max((shop.orders.loaded_at - shop.orders.ordered_at)[first]) <= LATEST_ORDER


def test_orders_happen_as_often_as_the_process_says(shop):
    sent = shop.recommendations
    complete = sent.recommended_at + WEEK <= 70 * DAY
    bought = [
        np.any(
            (shop.orders.user == user)
            & (shop.orders.category == category)
            & (shop.orders.ordered_at >= at)
            & (shop.orders.ordered_at < at + WEEK)
        )
        for user, category, at in zip(
            sent.user[complete], sent.category[complete], sent.recommended_at[complete], strict=True
        )
    ]
    expected = sent.probability[complete]
    error = np.sqrt(np.sum(expected * (1 - expected)))
    assert abs(np.sum(bought) - np.sum(expected)) < 4 * error


def test_interest_makes_an_order_more_likely():
    assert probability() < probability(category_views_7d=[3])
    assert probability() < probability(category_carts_7d=[1])
    assert probability() < probability(is_subscriber=[True])
    assert probability(age_years=[80]) < probability()


def test_a_missing_count_is_none_and_a_missing_profile_is_average():
    assert probability(category_views_7d=[np.nan]) == probability(category_views_7d=[0])
    unknown = probability(
        age_years=[np.nan], country=np.array([None]), device=np.array([None]), is_subscriber=[None]
    )
    assert probability(age_years=[80]) < unknown < probability(is_subscriber=[True])


@given(st.integers(-3 * DAY, 3 * DAY), st.integers(0, 1000))
def test_rows_arrive_at_the_end_of_a_batch(occurred_at, seed):
    loaded_at = arrive(np.random.default_rng(seed), np.full(50, occurred_at))
    assert np.all(loaded_at >= occurred_at)
    assert np.all(loaded_at <= occurred_at + 5 * DAY)
    assert np.all(loaded_at % 900 == 0)


rows = st.lists(
    st.tuples(st.integers(1, 3), st.integers(-5, 9), st.integers(0, 9)), min_size=1, max_size=12
)


@given(rows, st.integers(1, 4), st.integers(0, 12))
def test_the_visible_profile_is_the_newest_change_known_then(rows, user, at):
    rows = sorted((user_, loaded, updated) for user_, updated, loaded in rows)
    log = Profiles(
        user_id=np.array([row[0] for row in rows]),
        age=np.arange(len(rows)),
        country=np.full(len(rows), None),
        device=np.full(len(rows), None),
        channel=np.full(len(rows), None),
        is_subscriber=np.zeros(len(rows), dtype=bool),
        updated_at=np.array([row[2] for row in rows]),
        loaded_at=np.array([row[1] for row in rows]),
    )
    known = [
        (updated, loaded, place)
        for place, (user_, loaded, updated) in enumerate(rows)
        if user_ == user and loaded <= at
    ]
    expected = max(known)[2] if known else -1
    assert visible_rows(log, np.array([user]), np.array([at])).tolist() == [expected]


facts = st.lists(
    st.tuples(st.integers(0, 6 * DAY), st.integers(0, 3 * DAY), st.booleans()), max_size=8
)


@given(facts, st.integers(0, 6), st.integers(1, 4))
def test_the_ledger_counts_what_occurred_before_and_arrived_by_midnight(facts, day, days):
    ledger = Ledger(7, 1, 1)
    nobody = np.array([0])
    for occurred, delay, removed in facts:
        at, loaded = np.array([occurred]), np.array([occurred + delay])
        ledger.add(nobody, nobody, at, loaded)
        if removed:
            ledger.remove(nobody, nobody, at, loaded + DAY)
    for midnight in range(day + 1):
        ledger.turn(midnight)
    now = day * DAY
    expected = sum(
        occurred < now
        and occurred >= now - days * DAY
        and occurred + delay <= now
        and not (removed and occurred + delay + DAY <= now)
        for occurred, delay, removed in facts
    )
    assert ledger.window(day, days).tolist() == [[expected]]

"""The limits of `monitor`: what breaks one, and what does not."""

from dataclasses import replace

import pytest

from runner.monitoring.broken_limits import (
    broken_by_ages,
    broken_by_columns,
    hints,
    unchecked_ages,
    unchecked_drift,
)
from runner.monitoring.column_figures import ColumnFigure
from runner.monitoring.seasons import Lack
from runner.recipes.limits import MonitorLimits


def figure(day, drift=0.5, p_value=0.001, missing=0.0):
    return ColumnFigure("activity:value", day, 100, drift, p_value, {"missing": missing}, ())


def broken(limits, *figures):
    return [problem.message for problem in broken_by_columns(limits, figures)]


@pytest.mark.parametrize(
    ("drift", "p_value", "breaks"),
    [(0.5, 0.001, True), (0.5, 0.02, False), (0.5, None, False), (0.3, 0.001, False)],
)
def test_a_drift_breaks_its_limit_if_it_is_larger_and_more_than_chance(drift, p_value, breaks):
    found = broken(MonitorLimits(max_drift=0.3), figure("2026-03-01", drift, p_value))
    assert bool(found) == breaks


def test_missing_values_break_their_limit_on_a_day_and_not_in_the_window():
    limits = MonitorLimits(max_missing=0.05)
    assert broken(limits, figure("", missing=0.5), figure("2026-03-01", missing=0.05)) == []
    [message] = broken(limits, figure("2026-03-01", missing=0.25))
    assert message == (
        "activity:value is missing or expired in 25.0% of the rows on 2026-03-01, the limit is 5.0%"
    )


def test_a_column_of_which_no_day_is_tested_is_not_checked_for_drift():
    """Few customers: however far the column has drifted, its limit is never broken."""
    days = [figure("", p_value=None), figure("2026-03-01", p_value=None)]
    tested, limits = figure("2026-03-02"), MonitorLimits(max_drift=0.1)
    few = "too few entities or values to test it"
    columns = ["activity:value", "prediction"]  # of which no answer has one
    assert unchecked_drift(limits, days, columns) == {few: columns}
    assert unchecked_drift(limits, [*days, tested], columns) == {few: ["prediction"]}
    assert unchecked_drift(MonitorLimits(), days, columns) == {}
    november = [replace(each, lacks=(Lack("November", has_rows=False),)) for each in days]
    assert unchecked_drift(limits, november, columns) == {
        "no training rows of November": columns[:1],
        few: columns[1:],
    }


def test_a_broken_limit_is_a_record_of_its_column_day_value_and_limit():
    limits = MonitorLimits(max_drift=0.3)
    [found] = broken_by_columns(limits, [figure("2026-03-01"), figure("", drift=0.4)])
    assert found.record == {
        "key": "max_drift",
        "name": "activity:value",
        "day": "2026-03-01",
        "value": 0.5,
        "limit": 0.3,
        "message": "activity:value has drifted by 0.500 on 2026-03-01, the limit is 0.3",
    }


def test_a_view_of_which_no_row_was_read_is_not_checked_for_its_age():
    ages = {("activity", "2026-03-01"): 60.0}
    limits = MonitorLimits(max_age="1h")
    assert unchecked_ages(limits, ages, ["activity", "profile"]) == ["profile"]
    assert unchecked_ages(MonitorLimits(), ages, ["profile"]) == []


@pytest.mark.parametrize(
    ("age", "limit", "told"),
    [
        (31_735_800, "26h", "were 367.4d old"),
        (26 * 3600 + 1, "26h", "were 26.1h old"),
        (7200, "1h", "were 2h old"),
        (150, "1m", "were 2.5m old"),
        (1.2, "1s", "were 2s old"),
    ],
)
def test_an_age_is_shown_in_the_unit_that_reads_best_and_is_above_its_limit(age, limit, told):
    [problem] = broken_by_ages(MonitorLimits(max_age=limit), {("activity", "2026-03-01"): age})
    assert told in problem.message


def test_each_broken_limit_has_its_hint_once():
    limits = MonitorLimits(max_drift=0.1, max_missing=0.1)
    two = [figure("2026-03-01", missing=0.5), figure("2026-03-02", missing=0.5)]
    other = [ColumnFigure("activity:other", "2026-03-01", 100, 0.5, 0.001, {"expired": 0.5}, ())]
    assert hints(broken_by_columns(limits, two + other)) == (
        "max_drift: look at its source, and train again if the change is real; max_missing: run "
        "`runner materialize`, and look at an entity with `runner online get`"
    )


def test_a_rare_status_is_not_shown_as_none():
    statuses = {"null": 0.25, "expired": 0.0005, "missing": 0.0001}
    shown = ColumnFigure("activity:value", "", 10_000, 0, 1, statuses, ()).shown_statuses
    assert shown == "25.0% null, 0.1% expired, <0.1% missing"

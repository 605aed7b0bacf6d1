"""The limits of `monitor`: what breaks one, and what does not."""

import pytest

from runner.monitoring.broken_limits import broken_by_columns
from runner.monitoring.column_figures import ColumnFigure
from runner.recipes.limits import MonitorLimits


def figure(day, drift=0.5, p_value=0.001, missing=0.0):
    return ColumnFigure("activity:value", day, 100, drift, p_value, missing, ())


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

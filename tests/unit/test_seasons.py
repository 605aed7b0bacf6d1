"""The training rows of the same weekday or month."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest

from runner.monitoring.bins import CategoryBins
from runner.monitoring.column_figures import column_figures
from runner.monitoring.drift import MIN_ENTITIES, Sample
from runner.monitoring.monitored import PREDICTION, Monitored
from runner.monitoring.seasons import Lack, Seasons, lacking, season_of, seasons_of
from runner.monitoring.served_log import WINDOW, ColumnDay

WHOLE = Sample(np.array([50.0, 250.0]), 300)
MONDAYS, SUNDAYS = Sample(np.array([50.0, 50.0]), 100), Sample(np.array([0.0, 200.0]), 200)
FEW = Sample(np.array([1.0, 3.0]), MIN_ENTITIES - 1)


@pytest.mark.parametrize("by", ["weekday", "month"])
def test_a_training_row_has_the_season_of_its_day_in_utc(by):
    instants = [datetime(2025, 12, 1, tzinfo=UTC) + timedelta(hours=7 * i) for i in range(1_500)]
    elsewhere = [instant.astimezone(timezone(timedelta(hours=9))) for instant in instants]
    expected = [season_of(by, instant.date()) for instant in instants]
    for zone, times in (("UTC", instants), ("Asia/Tokyo", elsewhere)):
        column = pa.chunked_array([pa.array(times, pa.timestamp("us", zone))])
        assert list(seasons_of(by, column)) == expected
    assert set(expected) == set(range(1, 8 if by == "weekday" else 13))


def test_a_day_without_enough_training_rows_of_its_season_is_not_tested():
    seasons = Seasons("weekday", {1: MONDAYS, 2: FEW}, WHOLE)
    assert seasons.on("2026-03-02") is MONDAYS
    for tuesday_or_wednesday in ("2026-03-03", "2026-03-04"):
        found = seasons.on(tuesday_or_wednesday)
        assert (found.effective, list(found.shares)) == (0, list(WHOLE.shares))


def test_a_window_is_compared_with_each_season_by_its_part_of_the_rows():
    seasons = Seasons("weekday", {1: MONDAYS, 7: SUNDAYS}, WHOLE)
    found = seasons.over({"2026-03-01": 30.0, "2026-03-02": 50.0, "2026-03-08": 20.0})
    assert list(found.shares) == pytest.approx([0.25, 0.75])
    assert found.effective == pytest.approx(1 / (0.25 / 100 + 0.25 / 200))
    assert seasons.over({"2026-03-02": 1.0}).effective == 100
    assert seasons.over({"2026-03-02": 99.0, "2026-03-03": 1.0}).effective == 0


class Log:
    """A log of one column and its rows by bin on each day; each row is of another entity."""

    def __init__(self, column, **days):
        by_day = {day: np.array(counts, np.float64) for day, counts in days.items()}
        self._days = {WINDOW: np.sum(list(by_day.values()), axis=0)} | by_day
        self._column = column

    def columns(self, _):
        return {(self._column, day): ColumnDay(counts) for day, counts in self._days.items()}

    def effective_sizes(self, _):
        return {day: counts.sum() for day, counts in self._days.items()}


def _monitored(seasons):
    return Monitored(
        *(PREDICTION, PREDICTION, (PREDICTION, ""), ("k",)),
        *(CategoryBins(("a", "b")), seasons.whole),
        seasons=seasons,
    )


def test_a_day_whose_season_the_training_rows_lack_says_so_and_so_does_the_window():
    known = Sample(np.array([0, 250.0, 250]), 500)
    few = Sample(np.array([0, 5.0, 5]), 10)
    column = _monitored(Seasons("month", {10: known, 12: few}, known))
    days = {f"2026-{month}-01": [0, 50, 50] for month in (10, 11, 12)}
    lacks = ["no training rows of November", "too few entities in the training rows of December"]
    figures = column_figures(Log(PREDICTION, **days), [column])
    told = [" and ".join(lacks), "", *lacks]
    assert [lacking(each.lacks) for each in figures] == told
    assert [each.record["untested"] or "" for each in figures] == told
    assert lacking([Lack("July", has_rows=False), Lack("July", has_rows=True)]) == (
        "too few entities in the training rows of July"
    )


def test_null_answers_of_a_day_do_not_count_as_its_part_of_the_window():
    mondays, sundays = Sample(np.array([0, 500.0, 0]), 500), Sample(np.array([0, 0, 500.0]), 500)
    seasons = Seasons("weekday", {1: mondays, 7: sundays}, Sample(np.array([0, 500.0, 500]), 1_000))
    column = _monitored(seasons)
    answers = {"2026-03-01": [0, 0, 300], "2026-03-02": [900, 100, 0], "2026-03-03": [50, 0, 0]}
    figures = column_figures(Log(PREDICTION, **answers), [column])
    assert [(each.day, each.rows, each.drift, each.p_value) for each in figures] == [
        (WINDOW, 400, 0, 1),
        ("2026-03-01", 300, 0, 1),
        ("2026-03-02", 100, 0, 1),
    ]

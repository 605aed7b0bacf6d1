"""Simulated months without a change, to count false alarms.

`python -m tests.quiet_months 200` counts the alarms of as many months of 24 columns: with the same
values on all days, and with a weekly season and `compare_by: weekday`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from runner.monitoring.bins import Bins, bins_of
from runner.monitoring.drift import FALSE_ALARM_RATE, Sample, adjusted, effective_size, p_value
from runner.monitoring.seasons import Seasons

USERS, WEEKS, WEEKDAYS = 1_000, 10, range(1, 8)
FIRST = date(2026, 3, 2)


def month(
    random: np.random.Generator, columns: int, days: int, height: float
) -> Iterator[tuple[int, float]]:
    """Yield (column, corrected p-value) for each column, on each day and in the window.

    Training has each user in several weeks; a month has others, who come on some days and ask up to
    five times on each. A user's value is the same on all days, but for the season.

    Parameters
    ----------
    height
        How much higher the values are from one weekday to the next; 0: there is no season.
    """
    p_values: list[float | None] = []
    for column in range(columns):
        bins, seasons = _trained(draw(random, column, USERS), height)
        values, asked = draw(random, column, USERS), np.zeros(USERS)
        window, by_day = np.zeros(len(bins.labels)), {}
        for number in range(days):
            day = FIRST + timedelta(days=number)
            users = random.choice(USERS, (80, 150, 400)[number % 3], replace=False)
            times = random.integers(1, 6, len(users)).astype(np.float64)
            found = bins.numbers(_column(values[users] + height * day.isoweekday()))
            counts = np.bincount(found, times, len(bins.labels))
            expected = seasons.on(day.isoformat()) if height else seasons.whole
            p_values.append(p_value(expected, Sample(counts, effective_size(times))))
            by_day[day.isoformat()] = float(counts.sum())
            window += counts
            asked[users] += times
        expected = seasons.over(by_day) if height else seasons.whole
        p_values.append(p_value(expected, Sample(window, effective_size(asked))))
    for i, p in enumerate(adjusted(p_values)):
        assert p is not None
        yield i // (days + 1), p


def draw(random: np.random.Generator, column: int, users: int) -> npt.NDArray[np.float64]:
    """Return a value per user: bell-shaped, mostly 0, one of five, or skewed with nulls."""
    kind = column % 4
    if kind == 0:
        return random.normal(size=users)
    if kind == 1:
        return np.round(random.gamma(0.3, 2, users))
    if kind == 2:
        return random.choice(5, users, p=[0.9, 0.05, 0.03, 0.015, 0.005]).astype(np.float64)
    return np.where(random.random(users) < 0.03, np.nan, random.exponential(size=users))


def _trained(values: npt.NDArray[np.float64], height: float) -> tuple[Bins, Seasons]:
    by_weekday = {day: _column(values + height * day) for day in WEEKDAYS}
    bins = bins_of(
        pa.chunked_array([part for each in by_weekday.values() for part in each.chunks]), "float64"
    )
    samples = {
        day: Sample(
            np.bincount(bins.numbers(each), minlength=len(bins.labels)) * float(WEEKS), USERS
        )
        for day, each in by_weekday.items()
    }
    whole = np.sum([each.counts for each in samples.values()], axis=0)
    return bins, Seasons("weekday", samples, Sample(whole, USERS))


def _column(values: npt.NDArray[np.float64]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, from_pandas=True)])


def alarms(months: int, columns: int, days: int, height: float = 0) -> int:
    """Return in how many quiet months any column has drifted by more than chance."""
    random = np.random.default_rng(0)
    return sum(
        min(p for _, p in month(random, columns, days, height)) < FALSE_ALARM_RATE
        for _ in range(months)
    )


if __name__ == "__main__":
    wanted = int(sys.argv[1])
    for what, season in (("quiet months", 0), ("quiet months with a weekly season", 2)):
        found = alarms(wanted, 24, 30, season)
        sys.stdout.write(f"{found} of {wanted} {what} have an alarm\n")

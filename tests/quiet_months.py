"""Simulated months without a change, to count false alarms, and months with one.

`python -m tests.quiet_months 200` counts the alarms of as many months of 24 columns.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from runner.monitoring.bins import Bins, bins_of
from runner.monitoring.drift import FALSE_ALARM_RATE, Sample, adjusted, effective_size, p_value

USERS, WEEKS = 1_000, 10


def month(random: np.random.Generator, columns: int, days: int) -> Iterator[tuple[int, float]]:
    """Yield (column, corrected p-value) for each column and day.

    Training has each user in several weeks, with equal values; a day has other users, who ask up to
    five times each.
    """
    p_values: list[float | None] = []
    for column in range(columns):
        bins, reference = _trained(draw(random, column, USERS))
        for day in range(days):
            asked = random.integers(1, 6, (80, 150, 400)[day % 3]).astype(np.float64)
            values = _column(draw(random, column, len(asked)))
            counts = np.bincount(bins.numbers(values), asked, len(bins.labels))
            p_values.append(p_value(reference, Sample(counts, effective_size(asked))))
    for i, p in enumerate(adjusted(p_values)):
        assert p is not None
        yield i // days, p


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


def _trained(values: npt.NDArray[np.float64]) -> tuple[Bins, Sample]:
    column = _column(values)
    bins = bins_of(column, "float64")
    counts = np.bincount(bins.numbers(column), minlength=len(bins.labels)) * float(WEEKS)
    return bins, Sample(counts, USERS)


def _column(values: npt.NDArray[np.float64]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, from_pandas=True)])


def alarms(months: int, columns: int, days: int) -> int:
    """Return in how many quiet months any column has drifted by more than chance."""
    random = np.random.default_rng(0)
    return sum(
        min(p for _, p in month(random, columns, days)) < FALSE_ALARM_RATE for _ in range(months)
    )


if __name__ == "__main__":
    wanted = int(sys.argv[1])
    sys.stdout.write(f"{alarms(wanted, 24, 30)} of {wanted} quiet months have an alarm\n")

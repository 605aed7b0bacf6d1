"""Training rows of the same weekday or month, for values that follow the calendar."""

from __future__ import annotations

import calendar
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from runner.monitoring.drift import MIN_ENTITIES, Sample
from runner.recipes.limits import Season

_TOO_FEW = "too few entities in the training rows of"
_UTC = pa.timestamp("us", "UTC")


def season_of(by: Season, day: date) -> int:
    """Return the weekday from 1, Monday, or the month from 1."""
    return day.isoweekday() if by == "weekday" else day.month


def seasons_of(by: Season, times: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return the season of each instant, in UTC, shape (n_rows,)."""
    known = pc.cast(times, _UTC)
    found = pc.month(known) if by == "month" else pc.day_of_week(known, count_from_zero=False)
    return np.asarray(found.to_numpy(), np.int64)


@dataclass(frozen=True)
class Lack:
    """A weekday or month whose training rows are too few to compare a day with, by its name."""

    season: str
    has_rows: bool


def lacking(lacks: Iterable[Lack]) -> str:
    """Return what is lacking, in words; empty if nothing is."""
    has_rows: dict[str, bool] = {}
    for each in lacks:
        has_rows[each.season] = has_rows.get(each.season, False) or each.has_rows
    none = ", ".join(season for season, has in has_rows.items() if not has)
    few = ", ".join(season for season, has in has_rows.items() if has)
    parts = (none and f"no training rows of {none}", few and f"{_TOO_FEW} {few}")
    return " and ".join(filter(None, parts))


@dataclass(frozen=True)
class Seasons:
    """How the training rows of a column are distributed, by season.

    Attributes
    ----------
    samples
        Season → its rows.
    whole
        All rows.
    """

    by: Season
    samples: Mapping[int, Sample]
    whole: Sample

    def on(self, day: str) -> Sample:
        """Return the rows that a day is compared with.

        All rows if those of its season have too few entities; then nothing is tested.
        """
        if self.lack(day):
            return Sample(self.whole.counts, 0)
        return self.samples[season_of(self.by, date.fromisoformat(day))]

    def lack(self, day: str) -> Lack | None:
        """Return the season of a day if its rows have too few entities, or there are none."""
        number = season_of(self.by, date.fromisoformat(day))
        names = calendar.day_name if self.by == "weekday" else calendar.month_name
        name = names[number - 1] if self.by == "weekday" else names[number]
        found = self.samples.get(number)
        if found is not None and found.effective >= MIN_ENTITIES:
            return None
        return Lack(name, has_rows=found is not None)

    def over(self, rows: Mapping[str, float]) -> Sample:
        """Return the rows that a window is compared with: each season by its part of the window.

        Parameters
        ----------
        rows
            Day → how many rows were answered on it.
        """
        parts: dict[int, float] = defaultdict(float)
        mixed = np.zeros_like(self.whole.counts)
        sizes, total = {}, sum(rows.values())
        for day, count in rows.items():
            season, sample = season_of(self.by, date.fromisoformat(day)), self.on(day)
            parts[season] += count / total
            sizes[season] = sample.effective
            mixed = mixed + count / total * sample.shares
        if not all(sizes.values()):
            return Sample(mixed, 0)
        # Entities of several seasons are no more evidence than all rows are.
        independent = 1 / sum(part**2 / sizes[season] for season, part in parts.items())
        return Sample(mixed, min(self.whole.effective, independent))

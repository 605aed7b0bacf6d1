"""The figures of each column, by day and of the window: drift, and what was missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from contract.view_layout import EXPIRED, MISSING
from runner.monitoring.drift import (
    FALSE_ALARM_RATE,
    Sample,
    adjusted,
    distance,
    p_value,
)
from runner.monitoring.monitored import PREDICTION, Monitored
from runner.monitoring.seasons import Lack, lacking
from runner.monitoring.served_log import WINDOW, ColumnDay, ServedLog

TOO_FEW = "too few entities"


@dataclass(frozen=True)
class ColumnFigure:
    """A column on a day, or in the window.

    Attributes
    ----------
    column
        Its name for readers: `view:feature`, a request input, or `prediction`.
    day
        Such as `2026-03-12`; empty: the window.
    rows
        How many answered rows it covers; a row of a sampled log counts for those it represents.
    drift
        The Jensen-Shannon distance from the training rows, 0 to 1.
    p_value
        Corrected for all columns and days of the window; None: too few entities to say.
    statuses
        Status other than `present` → the share of rows of a feature that had it; None: no feature.
    shares, expected
        The share of rows in each bin, and that of the training rows that they are compared with.
    lacks
        The seasons that the training rows lack: it is compared with all of them and not tested.
    """

    column: str
    day: str
    rows: float
    drift: float
    p_value: float | None
    statuses: Mapping[str, float] | None
    shares: tuple[float, ...]
    expected: tuple[float, ...] = ()
    lacks: tuple[Lack, ...] = ()

    @property
    def has_drifted(self) -> bool:
        """Whether the drift is more than chance."""
        return self.p_value is not None and self.p_value < FALSE_ALARM_RATE

    @property
    def missing(self) -> float | None:
        """The share of rows for which a feature was missing or expired; None: no feature."""
        if self.statuses is None:
            return None
        return self.statuses.get(MISSING, 0.0) + self.statuses.get(EXPIRED, 0.0)

    @property
    def shown_statuses(self) -> str:
        """The statuses other than `present` and their shares; empty: there are none."""
        return ", ".join(
            f"{_percent(share)} {name}" for name, share in (self.statuses or {}).items()
        )

    @property
    def record(self) -> dict[str, object]:
        """The figure in JSON's types."""
        return {
            "column": self.column,
            "day": self.day or None,
            "rows": round(self.rows),
            "drift": self.drift,
            "p_value": self.p_value,
            "drifted": self.has_drifted,
            "untested": None if self.p_value is not None else lacking(self.lacks) or TOO_FEW,
            "missing": self.missing,
            "statuses": None if self.statuses is None else dict(self.statuses),
        }


def column_figures(log: ServedLog, columns: Sequence[Monitored]) -> list[ColumnFigure]:
    """Return the figures of every column: of the window first, then day by day."""
    seen = log.columns(columns)
    sizes = {keys: log.effective_sizes(keys) for keys in {each.keys for each in columns}}
    days = (WINDOW, *sorted({day for _, day in seen} - {WINDOW}))
    served = {column.name: _served(column, days, seen, sizes[column.keys]) for column in columns}
    each = [
        (column, day, of[day], _expected(column, day, of))
        for day in days
        for column in columns
        if day in (of := served[column.name])
    ]
    p_values = adjusted([p_value(trained, of) for *_, of, trained in each])
    return [
        ColumnFigure(
            column.shown_as,
            day,
            float(of.counts.sum()),
            distance(trained, of),
            p,
            _shares(seen[column.name, day]) if column.is_feature else None,
            tuple(of.shares.tolist()),
            tuple(trained.shares.tolist()),
            _lacks(column, day, served[column.name]),
        )
        for (column, day, of, trained), p in zip(each, p_values, strict=True)
    ]


def _expected(column: Monitored, day: str, served: Mapping[str, Sample]) -> Sample:
    """Return the training rows that a day, or the window, is compared with.

    Parameters
    ----------
    served
        The column's rows that are compared, by day.
    """
    if column.seasons is None:
        return column.reference
    if day != WINDOW:
        return column.seasons.on(day)
    rows = {when: float(of.counts.sum()) for when, of in served.items() if when != WINDOW}
    return column.seasons.over(rows)


def _lacks(column: Monitored, day: str, served: Mapping[str, Sample]) -> tuple[Lack, ...]:
    """Return which seasons' training rows are lacking for a day, or for any day of the window."""
    if column.seasons is None:
        return ()
    days = sorted(set(served) - {WINDOW}) if day == WINDOW else [day]
    return tuple(dict.fromkeys(filter(None, map(column.seasons.lack, days))))


def _percent(share: float) -> str:
    """Return a share above 0 as text, never as `0.0%`."""
    return f"{share:.1%}" if share >= 0.0005 else "<0.1%"


def _shares(found: ColumnDay) -> dict[str, float]:
    rows = float(found.counts.sum())
    return {status: weight / rows for status, weight in sorted(found.statuses.items())}


def _served(
    column: Monitored,
    days: Sequence[str],
    seen: Mapping[tuple[str, str], ColumnDay],
    effective: Mapping[str, float],
) -> dict[str, Sample]:
    """Return the rows that are compared, by day; a day without any is left out.

    A null answer says that entities are missing, which the features' figures say too.
    """
    found = {}
    for day in days:
        if (column.name, day) not in seen:
            continue
        counts, share = seen[column.name, day].counts, 1.0
        if column.name == PREDICTION:
            given = np.array([0.0, *counts[1:]])
            counts, share = given, float(given.sum() / counts.sum())
        if share:
            found[day] = Sample(counts, effective[day] * share)
    return found

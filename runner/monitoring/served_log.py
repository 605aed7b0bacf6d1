"""What the serving log says of one version of a model, counted inside the warehouse.

Each figure is one scan of the window's days; what comes back grows with days, columns and bins,
not with rows. A row of a sampled log counts for those it represents, `1 / log_share`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import product

import numpy as np

from contract.log_format import STATUS_LETTERS
from contract.view_layout import PRESENT
from runner.monitoring.drift import Counts
from runner.monitoring.monitored import Monitored
from runner.warehouse.log_sql import Cell, LogReader

ANSWERED = "(answered_as = 'answer' or answered_as is null)"
"""What clients were given: not a shadow's rows."""
WINDOW = ""
"""The day of figures for the complete window."""
_OTHERS = tuple(status for status in STATUS_LETTERS if status != PRESENT)


@dataclass(frozen=True)
class Window:
    """Whose rows are read, and from when until when, in UTC."""

    model: str
    version: str
    run_id: str
    since: datetime
    until: datetime


@dataclass(frozen=True)
class VersionDay:
    """How many rows the log has of a version on a day."""

    day: str
    version: str
    rows: int


@dataclass
class ColumnDay:
    """A column on a day, or in the window.

    Attributes
    ----------
    counts
        Rows by bin.
    statuses
        Status other than `present` → rows of a feature that had it.
    """

    counts: Counts
    statuses: dict[str, float] = field(default_factory=dict)


class ServedLog:
    """One version's part of the log.

    Parameters
    ----------
    reader
        Runs queries in the warehouse.
    """

    def __init__(self, reader: LogReader, window: Window) -> None:
        self._reader = reader
        self._sql = reader.sql
        self._window = window

    def versions(self) -> list[VersionDay]:
        """Return the rows of each version of the model by day."""
        found = self._reader.rows(
            f"select {self._sql.day('served_at')} as day, model_version, count(*)\n"
            f"from {self._sql.table}\n"
            f"where {self._in_window} and {ANSWERED}\n"
            "group by 1, 2\norder by 1, 2"
        )
        return [VersionDay(str(day), str(v), int(_number(n))) for day, v, n in found]

    def shadows(self) -> list[str]:
        """Return the versions of the model that answered as a shadow."""
        found = self._reader.rows(
            f"select distinct model_version from {self._sql.table}\n"
            f"where {self._in_window} and answered_as = 'shadow'\norder by 1"
        )
        return [str(version) for [version] in found]

    def columns(self, columns: Sequence[Monitored]) -> dict[tuple[str, str], ColumnDay]:
        """Return what each column holds, by (its name, day); `WINDOW` is the sum of all days."""
        if not columns:
            return {}
        cells: list[tuple[Monitored, int, str]] = []
        numbers = []
        for column in columns:
            numbers.append(f"{len(cells)} + {self._cell(column)}")
            statuses = (PRESENT, *_OTHERS) if column.is_feature else (PRESENT,)
            cells += product([column], range(len(column.bins.labels)), statuses)
        found = self._reader.rows(
            f"{self._served('features, statuses, prediction, probabilities')}\n"
            "select day, cell, sum(weight)\nfrom (\n"
            f"{self._sql.one_row_per_value('served', 'day, weight', numbers, 'cell')}\n"
            ") as cells\ngroup by 1, 2"
        )
        result: dict[tuple[str, str], ColumnDay] = {}
        for day, cell, weight in found:
            column, place, status = cells[int(_number(cell))]
            for when in (str(day), WINDOW):
                empty = ColumnDay(np.zeros(len(column.bins.labels)))
                seen = result.setdefault((column.name, when), empty)
                seen.counts[place] += _number(weight)
                if status != PRESENT:
                    seen.statuses[status] = seen.statuses.get(status, 0.0) + _number(weight)
        return result

    def effective_sizes(self, keys: Sequence[str]) -> dict[str, float]:
        """Return how many independent rows each day is worth, and `WINDOW`, by entities of `keys`.

        See `drift.effective_size`. Without keys it is one: all rows repeat one value.
        """
        if not keys:
            return defaultdict(lambda: 1.0)
        names = [f"key_{i}" for i in range(len(keys))]
        texts = [self._sql.json_text("entity_keys", key) for key in keys]
        selected = "".join(f", {text} as {name}" for text, name in zip(texts, names, strict=True))
        found = self._reader.rows(
            f"{self._served(f'entity_keys{selected}')},\n"
            f"by_day as (\n    select day, {', '.join(names)}, sum(weight) as total\n"
            f"    from served\n    group by day, {', '.join(names)}\n),\n"
            f"in_window as (\n    select {', '.join(names)}, sum(total) as total\n"
            f"    from by_day\n    group by {', '.join(names)}\n)\n"
            "select day, sum(total) * sum(total) / sum(total * total) from by_day group by day\n"
            "union all\nselect cast(null as date), "
            "sum(total) * sum(total) / sum(total * total) from in_window"
        )
        return {WINDOW if day is None else str(day): _number(size) for day, size in found}

    def ages(self, views: Sequence[str]) -> dict[tuple[str, str], float]:
        """Return the mean age in seconds of the rows that were read, by (view, day)."""
        if not views:
            return {}
        means = []
        for view in views:
            read = self._sql.json_text("event_times", view)
            age = self._sql.seconds("served_at", self._sql.json_instant(read))
            known = f"case when {read} is not null then weight end"
            means.append(f"sum({age} * weight) / sum({known})")
        found = self._reader.rows(
            f"{self._served('event_times')}\nselect day, {', '.join(means)}\n"
            "from served\ngroup by day"
        )
        return {
            (view, str(day)): _number(age)
            for day, *ages in found
            for view, age in zip(views, ages, strict=True)
            if age is not None
        }

    def sample(self, size: int) -> list[list[str]]:
        """Return rows drawn at random: `served_at`, and keys, features, statuses, event times."""
        sql = self._sql
        whole = ("entity_keys", "features", "statuses", "event_times")
        by_chance = sql.hash(["server_id", sql.text("server_row")])
        found = self._reader.rows(
            f"select {sql.iso('served_at')}, {', '.join(map(sql.json, whole))}\n"
            f"from {sql.table}\nwhere {self._of_version}\norder by {by_chance}\nlimit {size}"
        )
        return [[str(cell) for cell in row] for row in found]

    def _cell(self, column: Monitored) -> str:
        """Return SQL for the bin of a value and, of a feature, its status, as one number."""
        place, member = column.place
        text = self._sql.json_text(place, member) if member else place
        number = column.bins.sql(self._sql, text)
        if not column.is_feature:
            return number
        status = self._sql.json_text("statuses", column.name)
        cases = (f"when {self._sql.literal(name)} then {i}" for i, name in enumerate(_OTHERS, 1))
        return f"{1 + len(_OTHERS)} * {number} + case {status} {' '.join(cases)} else 0 end"

    @property
    def _in_window(self) -> str:
        window, sql = self._window, self._sql
        return (
            f"model_name = {sql.literal(window.model)} "
            f"and served_at >= {sql.instant(window.since.isoformat())} "
            f"and served_at < {sql.instant(window.until.isoformat())}"
        )

    @property
    def _of_version(self) -> str:
        window, sql = self._window, self._sql
        return (
            f"{self._in_window} and {ANSWERED} and model_version = {sql.literal(window.version)} "
            f"and run_id = {sql.literal(window.run_id)}"
        )

    def _served(self, columns: str) -> str:
        sql = self._sql
        return (
            f"with served as (\n    select {sql.day('served_at')} as day, "
            f"1 / log_share as weight, served_at, {columns}\n    from {sql.table}\n"
            f"    where {self._of_version}\n)"
        )


def _number(cell: Cell) -> float:
    """Return a number of the warehouse, of any type, as a float; null is 0."""
    return float(str(cell or 0))

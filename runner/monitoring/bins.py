"""Bins of a column's values, chosen from training rows and counted in Python or in SQL.

Bin 0 is null. A number's bins follow in order, the first and the last for values beyond those of
the training rows; a category's are its most frequent values and, last, all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from runner.warehouse.log_sql import LogSql

Numbers = npt.NDArray[np.float64]
_QUANTILES = 10
_MOST_CATEGORIES = 20
_NULL = "null"


class Bins(Protocol):
    """How the values of a column are counted."""

    @property
    def labels(self) -> list[str]:
        """What each bin holds, in a few letters."""

    def numbers(self, values: pa.ChunkedArray) -> npt.NDArray[np.intp]:
        """Return the bin of each value, shape (n_rows,)."""

    def sql(self, dialect: LogSql, text: str) -> str:
        """Return SQL for the bin of a value.

        Parameters
        ----------
        text
            SQL for the value as text, null where there is none.
        """


@dataclass(frozen=True)
class NumberBins:
    """Bins of numbers; bin i + 1 holds those from `edges[i - 1]` up to, not including, `edges[i]`.

    Attributes
    ----------
    edges
        Sorted, each once.
    """

    edges: tuple[float, ...]

    @property
    def labels(self) -> list[str]:
        """What each bin holds, in a few letters."""
        inner = [f"{low:.4g} …" for low in self.edges[:-1]]
        return [_NULL, f"< {self.edges[0]:.4g}", *inner, f"> {self.edges[-1]:.4g}"]

    def numbers(self, values: pa.ChunkedArray) -> npt.NDArray[np.intp]:
        """Return the bin of each value, shape (n_rows,)."""
        numbers = _numbers(values)
        found = np.searchsorted(np.array(self.edges), numbers, side="right") + 1
        return np.where(np.isnan(numbers), 0, found)

    def sql(self, dialect: LogSql, text: str) -> str:
        """Return SQL for the bin of a value."""
        # The text appears once: finding a value in JSON takes most of the time.
        return f"coalesce({dialect.bucket(dialect.number(text), self.edges)} + 1, 0)"


@dataclass(frozen=True)
class CategoryBins:
    """Bins of text and flags: one per name, and one for the others."""

    names: tuple[str, ...]

    @property
    def labels(self) -> list[str]:
        """What each bin holds, in a few letters."""
        return [_NULL, *self.names, "(other)"]

    def numbers(self, values: pa.ChunkedArray) -> npt.NDArray[np.intp]:
        """Return the bin of each value, shape (n_rows,)."""
        places: dict[str | None, int] = {name: i for i, name in self._numbered}
        places[None] = 0
        other = len(self.names) + 1
        return np.array([places.get(name, other) for name in _texts(values).to_pylist()], np.intp)

    def sql(self, dialect: LogSql, text: str) -> str:
        """Return SQL for the bin of a value."""
        cases = " ".join(f"when {dialect.literal(name)} then {i}" for i, name in self._numbered)
        other = len(self.names) + 1
        if not cases:
            return f"case when {text} is null then 0 else {other} end"
        return f"case when {text} is null then 0 else case {text} {cases} else {other} end end"

    @property
    def _numbered(self) -> Sequence[tuple[int, str]]:
        return list(enumerate(self.names, 1))


def bins_of(values: pa.ChunkedArray, dtype: str) -> Bins:
    """Return bins for the values of a column of training rows.

    Numbers: deciles of the rows. A value that more than a tenth of the rows have gets its own bin;
    if there are few values, each gets one.
    """
    if dtype in {"string", "bool"}:
        counted = pc.value_counts(_texts(values).drop_null()).to_pylist()
        ranked = sorted(counted, key=lambda each: (-each["counts"], each["values"]))
        return CategoryBins(tuple(each["values"] for each in ranked[:_MOST_CATEGORIES]))
    numbers = _numbers(values)
    return NumberBins(tuple(_edges(np.sort(numbers[~np.isnan(numbers)])).tolist()))


def _edges(ordered: Numbers) -> Numbers:
    if not len(ordered):
        return np.zeros(1)  # no value is known: any is new
    distinct = np.unique(ordered)
    chosen = distinct
    if len(distinct) > _QUANTILES:
        places = np.arange(_QUANTILES) * len(ordered) // _QUANTILES
        starts = ordered[places]
        heavy = starts[1:][starts[1:] == starts[:-1]]
        after = np.searchsorted(distinct, heavy, side="right")
        chosen = np.concatenate([starts, distinct[np.minimum(after, len(distinct) - 1)]])
    return np.unique([*chosen, np.nextafter(distinct[-1], np.inf)])


def _numbers(values: pa.ChunkedArray) -> Numbers:
    """Return the values as float64, NaN for null."""
    return np.asarray(pc.cast(values, pa.float64(), safe=False).to_numpy(), np.float64)


def _texts(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the values as the serving log's JSON has them: flags are `true` and `false`."""
    return pc.cast(values, pa.string())

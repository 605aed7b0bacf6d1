"""Computes a model's computed columns: for one row over HTTP, and for many of a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from contract.bundle import Bundle
from contract.columns import float_column, text_column, time_column
from contract.computed import ComputedColumn
from contract.expression_columns import Vector, evaluated
from contract.expression_rows import row_function
from contract.expressions import ASKED_AT, KINDS, Kind, columns_in
from contract.values import FeatureValue

_VECTORS: Mapping[Kind, Callable[[Any], Vector]] = {
    "number": float_column,
    "flag": float_column,
    "text": text_column,
    "time": time_column,
}


def computation_of(bundle: Bundle) -> Computation:
    """Return what computes a bundle's computed columns."""
    return Computation(bundle.computed, bundle.row_dtypes)


class Computation:
    """Computes columns from the others of a row; false if there is none to compute.

    Parameters
    ----------
    dtypes
        The other columns of a row, in their order.
    """

    def __init__(self, computed: Sequence[ComputedColumn], dtypes: Mapping[str, str]) -> None:
        self._computed = computed
        self._kinds: dict[str, Kind] = {name: KINDS[dtype] for name, dtype in dtypes.items()}
        self._kinds |= {column.name: KINDS[column.dtype] for column in computed}
        self._kinds[ASKED_AT] = "time"
        places = {name: (place, kind) for place, (name, kind) in enumerate(self._kinds.items())}
        self._fill = row_function(computed, places)
        self._blank = (None,) * len(computed)

    def __bool__(self) -> bool:
        return bool(self._computed)

    def row(self, values: Sequence[FeatureValue], asked_at: datetime) -> list[FeatureValue]:
        """Return the values of a row, then the computed ones."""
        row = [*values, *self._blank, asked_at]
        self._fill(row)
        row.pop()
        return row

    def completed(self, table: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the columns with the computed ones; see `columns`."""
        return {**table, **self.columns(table)} if self else table

    def columns(self, table: Mapping[str, Any]) -> dict[str, Vector]:
        """Return the computed columns by name.

        Parameters
        ----------
        table
            Arrow's columns or lists, by name; `event_timestamp` is the asked instant.

        Returns
        -------
        dict of str to ndarray of shape (n_rows,)
            float64 with NaN for null, flags 0 and 1; or object with None for null.
        """
        used = {name for column in self._computed for name in columns_in(column.expression)}
        vectors: dict[str, Vector] = {
            name: _VECTORS[self._kinds[name]](table[name])
            for name in self._kinds
            if name in used and name in table
        }
        for column in self._computed:
            vectors[column.name] = evaluated(column.expression, vectors)
        return {column.name: vectors[column.name] for column in self._computed}

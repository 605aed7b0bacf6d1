"""From feature values to a model's tensors, for one row over HTTP and a million in a batch alike.

**The missing rule lives here.** A value that is missing, NULL, expired or was never seen becomes
NaN in a float tensor and "" in a text tensor; imputation happens inside the model. Booleans
become 0.0 and 1.0. Every number passes through float64 before it becomes float32, so that a
Python int, a NumPy column and an Arrow column of the same value are rounded alike. A column with a
number that is infinite or beyond float32 is refused by name: no estimator can take it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from contract.bundle import Bundle
from contract.columns import Column, float_column, text_values
from contract.serving_errors import FeatureRangeError
from contract.values import CAP_IT, FLOAT32_MAX, beyond_float32

Tensor = npt.NDArray[Any]
Row = Sequence[Any]
Numbers = npt.NDArray[np.float64]
"""Rows of float64, none missing: shape (n_rows, n_columns)."""


def float_tensor(columns: Sequence[Column]) -> Tensor:
    """Return a float32 tensor of shape (n_rows, n_columns); missing values are NaN."""
    return np.column_stack([float_column(column) for column in columns]).astype(np.float32)


def text_tensor(columns: Sequence[Column]) -> Tensor:
    """Return an object tensor of str of shape (n_rows, n_columns); missing values are ""."""
    by_column = [texts(column) for column in columns]
    tensor = np.empty((len(by_column[0]), len(by_column)), dtype=object)
    for position, column in enumerate(by_column):
        tensor[:, position] = column
    return tensor


def numbers(name: str, column: Column) -> npt.NDArray[np.float64]:
    """Return a column as float64. Raises FeatureRangeError if float32 cannot hold a number of it.

    NaN is within the range: it is a missing value.
    """
    values = float_column(column)
    beyond = values[np.abs(values) > FLOAT32_MAX]
    if len(beyond):
        largest = float(beyond[np.abs(beyond).argmax()])
        raise FeatureRangeError(
            f"{name}, in {len(beyond):,} of {len(values):,} rows: {beyond_float32(largest)}",
            hint=CAP_IT,
        )
    return values


def texts(column: Column) -> list[str]:
    """Return texts; missing ones are ""."""
    return [value or "" for value in text_values(column)]


class Tensors:
    """Build a model's tensors out of columns or rows."""

    def __init__(self, bundle: Bundle) -> None:
        position = {name: i for i, name in enumerate(bundle.column_dtypes)}
        self._inputs = bundle.model.inputs
        self._positions = [[position[c] for c in tensor.columns] for tensor in self._inputs]
        width = len(position)
        self._whole = [positions == list(range(width)) for positions in self._positions]

    def from_columns(self, columns: Mapping[str, Column]) -> dict[str, Tensor]:
        """Return the tensors by name, of columns by name."""
        return {
            tensor.name: float_tensor([numbers(name, columns[name]) for name in tensor.columns])
            if tensor.type == "float"
            else text_tensor([columns[name] for name in tensor.columns])
            for tensor in self._inputs
        }

    def from_rows(self, rows: Sequence[Row] | Numbers) -> dict[str, Tensor]:
        """Return the tensors by name, of rows in the order of `bundle.column_dtypes`."""
        if isinstance(rows, np.ndarray):
            return {
                tensor.name: rows[:, positions].astype(np.float32)
                for tensor, positions in zip(self._inputs, self._positions, strict=True)
            }
        tensors = {}
        for tensor, positions, whole in zip(
            self._inputs, self._positions, self._whole, strict=True
        ):
            picked = rows if whole else [[row[i] for i in positions] for row in rows]
            if tensor.type == "float":
                tensors[tensor.name] = np.array(picked, dtype=np.float64).astype(np.float32)
            else:
                tensors[tensor.name] = text_tensor(list(zip(*picked, strict=True)))
        return tensors

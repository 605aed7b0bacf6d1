"""Rows of features as the ML model sees them.

The rule itself is in `contract.tensors`, so training, batch and online cannot differ: numbers
and flags become float32 with NaN for null, text stays text with "" for null. float32 is what the
ONNX model computes in; fitting on the very same values makes both see equal inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from contract.computation import Computation
from contract.computed import ComputedColumn
from contract.expression_columns import Vector, is_null
from contract.tensors import float_tensor, text_tensor
from contract.values import FLOAT32_MAX


class InputColumn(Protocol):
    """What makes a column of a table a model input: a feature, of dbt's or of a record."""

    @property
    def column(self) -> str:
        """Its name in the table, `view__feature`."""

    @property
    def dtype(self) -> str:
        """Its type, such as `int64` or `string`."""


class ModelColumn(NamedTuple):
    """A column of training rows that a model takes, and its type."""

    column: str
    dtype: str


def model_columns(
    sources: Iterable[InputColumn], computed: Iterable[ComputedColumn]
) -> list[ModelColumn]:
    """Return the columns of a model: its features and request inputs, then what is computed.

    A time is no number: a computed column, the days since it, replaces it.
    """
    taken = [ModelColumn(one.column, one.dtype) for one in sources if one.dtype != "timestamp"]
    return [*taken, *(ModelColumn(column.name, column.dtype) for column in computed)]


def with_computed(
    table: pa.Table, sources: Iterable[InputColumn], computed: Sequence[ComputedColumn]
) -> pa.Table:
    """Return the table, which has features and request inputs, with the computed columns."""
    computation = Computation(computed, {one.column: one.dtype for one in sources})
    values = computation.columns({name: table[name] for name in table.column_names})
    for column in computed:
        table = table.append_column(column.name, _arrow(values[column.name], column.dtype))
    return table


def _arrow(values: Vector, dtype: str) -> pa.Array:
    if dtype == "bool":
        return pa.array(values == 1, mask=is_null(values))
    kind = pa.string() if dtype == "string" else pa.float64()
    return pa.array(values, kind, mask=is_null(values))


@dataclass(frozen=True)
class TooLarge:
    """A column whose numbers are infinite, or too large for float32.

    Attributes
    ----------
    rows
        Mask of shape (n_rows,): which rows have such a number.
    largest
        The one farthest from 0.
    """

    column: str
    rows: npt.NDArray[np.bool_]
    largest: float

    @property
    def problem(self) -> str:
        """What is wrong with the numbers, after the feature's name."""
        return f"is not between -{FLOAT32_MAX:.3g} and {FLOAT32_MAX:.3g}"


def too_large(table: pa.Table, dtypes: Mapping[str, str]) -> list[TooLarge]:
    """Return the columns with a number that a model, which computes in float32, cannot take.

    Parameters
    ----------
    dtypes
        Column → type of each feature in `table`. NaN and null are missing, not too large.
    """
    found = []
    for column, dtype in dtypes.items():
        if not dtype.startswith("float"):
            continue
        values = pc.cast(table[column], pa.float64()).to_numpy()
        rows = np.abs(values) > FLOAT32_MAX
        if rows.any():
            beyond = values[rows]
            found.append(TooLarge(column, rows, float(beyond[np.abs(beyond).argmax()])))
    return found


def model_inputs(table: pa.Table, features: Sequence[InputColumn]) -> pd.DataFrame:
    """Return the model inputs in `table`, one column per feature.

    Returns
    -------
    DataFrame of shape (n_rows, n_features)
        float32 (NaN where null) or object holding str ("" where null), in the features' order.
    """
    return pd.DataFrame(
        {
            feature.column: (text_tensor if feature.dtype == "string" else float_tensor)(
                [table[feature.column]]
            )[:, 0]
            for feature in features
        }
    )

"""Columns of any library as NumPy arrays: lists, or arrays of NumPy, pandas or Arrow."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from contract.time_rules import whole_seconds

Column = Any
"""A list, or an array of NumPy, pandas or Arrow, whose types mypy does not know."""
_MICROSECONDS = 1_000_000


def float_column(column: Column) -> npt.NDArray[np.float64]:
    """Return numbers or flags as float64; nulls are NaN."""
    if hasattr(column, "cast"):  # Arrow: int64 beyond 2^53 may round, as everywhere
        if str(column.type).startswith("decimal"):
            column = column.cast("string")  # from a decimal it is off by the last bit at times
        column = column.cast("float64", safe=False).to_numpy(zero_copy_only=False)
    elif hasattr(column, "to_numpy"):  # pandas
        column = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.asarray(column, dtype=np.float64)  # None becomes NaN


def text_values(column: Column) -> list[str | None]:
    """Return texts; nulls are None."""
    if hasattr(column, "to_pylist"):  # Arrow
        column = column.to_pylist()
    return [value if isinstance(value, str) else _null_text(value) for value in column]


def text_column(column: Column) -> npt.NDArray[np.object_]:
    """Return texts as objects; nulls are None."""
    texts = text_values(column)
    objects = np.empty(len(texts), dtype=object)
    objects[:] = texts
    return objects


def time_column(column: Column) -> npt.NDArray[np.float64]:
    """Return instants as Unix seconds, cut to whole ones; nulls are NaN."""
    if hasattr(column, "cast"):  # Arrow
        column = column.to_numpy(zero_copy_only=False)
    elif hasattr(column, "to_numpy"):  # pandas; in UTC
        column = column.to_numpy(dtype="datetime64[us]")
    if not isinstance(column, np.ndarray):
        seconds_of = (np.nan if value is None else whole_seconds(value) for value in column)
        return np.fromiter(seconds_of, dtype=np.float64, count=len(column))
    instants = column.astype("datetime64[us]")
    seconds = (instants.astype(np.int64) // _MICROSECONDS).astype(np.float64)
    seconds[np.isnat(instants)] = np.nan
    return np.asarray(seconds)


def _null_text(value: object) -> str | None:
    """Return None for a null of any library; everything else is a mistake."""
    if value is None or type(value).__name__ == "NAType" or value != value:
        return None
    raise TypeError(f"expected text, got {type(value).__name__}")

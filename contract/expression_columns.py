"""Expressions of whole columns with NumPy: the same values as those of each row alone.

Numbers and flags are float64 with NaN for null, flags 0 and 1; texts are objects with None for
null; times are Unix seconds. What NumPy and Python compute with different last digits (the
logarithm, powers) is computed by Python.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from contract.expressions import Node
from contract.time_rules import DAY_SECONDS, calendar_part
from contract.values import FLOAT32_MAX

Vector = npt.NDArray[np.float64] | npt.NDArray[np.object_]
_Floats = npt.NDArray[np.float64]
_Mask = npt.NDArray[np.bool_]


def evaluated(node: Node, columns: Mapping[str, Vector]) -> Vector:
    """Return the value of a checked node in every row; of shape () where it uses no column."""
    match node:
        case ["column", str(name)]:
            return columns[name]
        case ["literal", str(text)]:
            return np.array(text, dtype=object)
        case ["literal", value]:
            return np.array(value, dtype=np.float64)
        case ["null", kind]:
            return np.array(None, dtype=object) if kind == "text" else np.array(np.nan)
        case ["calendar", str(part), str(zone), list(argument)]:
            return _calendar_part(part, zone, _floats(evaluated(argument, columns)))
    operation = str(node[0])
    arguments = [evaluated(each, columns) for each in node[1:] if isinstance(each, list)]
    return _OPERATIONS[operation](*arguments)


def is_null(values: Vector) -> _Mask:
    """Return where values are null."""
    if values.dtype == object:
        return np.equal(values, None).astype(np.bool_)  # type: ignore[call-overload,no-any-return]
    return np.isnan(_floats(values))


def _floats(values: Vector) -> _Floats:
    return values  # type: ignore[return-value] # its kind was checked


def _numeric(operate: Callable[..., _Floats]) -> Callable[..., Vector]:
    def apply(*arguments: _Floats) -> _Floats:
        with np.errstate(all="ignore"):
            result = np.asarray(operate(*arguments))
        known = np.abs(result) <= FLOAT32_MAX  # false for NaN
        return np.where(known, result, np.nan)

    return apply


def _each(operate: Callable[..., float]) -> Callable[..., Vector]:
    """Return an operation that Python computes, value by value."""

    def one(*numbers: float) -> float:
        if any(number != number for number in numbers):
            return np.nan
        try:
            result = operate(*numbers)
        except (ArithmeticError, ValueError):
            return np.nan
        return result if -FLOAT32_MAX <= result <= FLOAT32_MAX else np.nan

    def apply(*arguments: _Floats) -> _Floats:
        columns = np.broadcast_arrays(*arguments)
        rows = zip(*(column.ravel().tolist() for column in columns), strict=True)
        values = [one(*numbers) for numbers in rows]
        return np.array(values, dtype=np.float64).reshape(columns[0].shape)

    return apply


def _comparison(compare: Callable[[Vector, Vector], object]) -> Callable[..., Vector]:
    def apply(left: Vector, right: Vector) -> _Floats:
        result = np.asarray(compare(left, right), dtype=np.float64)
        return np.where(is_null(left) | is_null(right), np.nan, result)

    return apply


def _in(value: Vector, *choices: Vector) -> Vector:
    return _or(*(_EQUAL(value, choice) for choice in choices))


def _and(*flags: _Floats) -> _Floats:
    false = np.logical_or.reduce(np.broadcast_arrays(*[flag == 0 for flag in flags]))
    null = np.logical_or.reduce(np.broadcast_arrays(*[np.isnan(flag) for flag in flags]))
    return np.where(false, 0.0, np.where(null, np.nan, 1.0))


def _or(*flags: Vector) -> _Floats:
    return 1 - _and(*(1 - _floats(flag) for flag in flags))


def _extreme(choose: np.ufunc) -> Callable[..., Vector]:
    # NumPy's minimum and maximum give NaN where one is NaN.
    return lambda *numbers: np.asarray(choose.reduce(np.broadcast_arrays(*numbers)))


def _coalesce(*arguments: Vector) -> Vector:
    result = arguments[-1]
    for values in arguments[-2::-1]:
        result = _chosen(~is_null(values), values, result)
    return result


def _null_if(values: Vector, other: Vector) -> Vector:
    same = _EQUAL(values, other) == 1
    null = np.array(None, dtype=object) if values.dtype == object else np.array(np.nan)
    return _chosen(same, null, values)


def _case(*arguments: Vector) -> Vector:
    result = arguments[-1]
    branches = list(zip(arguments[:-1:2], arguments[1::2], strict=True))
    for condition, value in reversed(branches):
        result = _chosen(condition == 1, value, result)
    return result


def _calendar_part(part: str, zone: str, instants: _Floats) -> _Floats:
    """Return the part of each instant; equal ones are looked up once."""
    read = calendar_part(part, zone)
    distinct, places = np.unique(instants, return_inverse=True)
    parts = [
        np.nan if second != second else read(datetime.fromtimestamp(second, UTC))
        for second in distinct.tolist()
    ]
    return np.array(parts, dtype=np.float64)[places]


def _chosen(where: _Mask, values: Vector, others: Vector) -> Vector:
    return np.where(where, values, others)


_EQUAL = _comparison(lambda left, right: left == right)
_OPERATIONS: Mapping[str, Callable[..., Vector]] = {
    "add": _numeric(np.add),
    "subtract": _numeric(np.subtract),
    "multiply": _numeric(np.multiply),
    "divide": _numeric(np.divide),
    "remainder": _numeric(np.fmod),
    "negate": _numeric(np.negative),
    "abs": _numeric(np.abs),
    "floor": _numeric(np.floor),
    "ceil": _numeric(np.ceil),
    "sqrt": _numeric(np.sqrt),
    "power": _each(math.pow),
    "ln": _each(math.log),
    "exp": _each(math.exp),
    "least": _extreme(np.minimum),
    "greatest": _extreme(np.maximum),
    "less": _comparison(lambda left, right: left < right),
    "less_or_equal": _comparison(lambda left, right: left <= right),
    "equal": _EQUAL,
    "unequal": _comparison(lambda left, right: left != right),
    "in": _in,
    "and": _and,
    "or": _or,
    "not": lambda flag: 1 - flag,
    "is_null": lambda values: is_null(values).astype(np.float64),
    "coalesce": _coalesce,
    "null_if": _null_if,
    "case": _case,
    "as_number": lambda values: values,
    "days_between": lambda later, earlier: (later - earlier) / DAY_SECONDS,
}

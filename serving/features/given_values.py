"""Values that come with a request, held against the types that the model was trained with.

null is a missing value, as NULL is in training. Numbers are taken as the warehouse's column would
hold them: a float32 is rounded here already, so that whatever is computed from it is equal too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from contract.values import FLOAT32_MAX, FeatureValue, beyond_float32
from serving.features.entity_keys import EXPECTED, INT32_RANGE, INT64_RANGE

_float32 = struct.Struct("<f")


class GivenValueError(ValueError):
    """A value of another type or range; the message follows the value's name."""


def given_value(dtype: str, value: object) -> FeatureValue:
    """Return a JSON value as a column of type `dtype` holds it; None for null.

    Raises
    ------
    GivenValueError
        If it is of another type, or a number that no model can take.
    """
    if value is None:
        return None
    read, expected = _TYPES[dtype]
    try:
        return read(value)
    except GivenValueError:
        raise
    except (TypeError, ValueError, OverflowError):
        raise GivenValueError(f" must be {expected}, or null") from None


def _whole(limits: range) -> Callable[[object], int]:
    def read(value: object) -> int:
        if type(value) is not int or value not in limits:
            raise ValueError
        return value

    return read


def _float64(value: object) -> float:
    if type(value) is not float and type(value) is not int:
        raise TypeError
    if not -FLOAT32_MAX <= value <= FLOAT32_MAX:
        raise GivenValueError(f": {beyond_float32(value)}")
    return float(value)


def _rounded(value: object) -> float:
    (rounded,) = _float32.unpack(_float32.pack(_float64(value)))
    return float(rounded)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _instant(value: object) -> datetime:
    moment = datetime.fromisoformat(_text(value))
    if moment.tzinfo is None:
        raise ValueError
    return moment.astimezone(UTC)


_NUMBER = "a number"
_TYPES: Mapping[str, tuple[Callable[[object], FeatureValue], str]] = {
    "int64": (_whole(INT64_RANGE), EXPECTED["int64"]),
    "int32": (_whole(INT32_RANGE), EXPECTED["int32"]),
    "float64": (_float64, _NUMBER),
    "float32": (_rounded, _NUMBER),
    "bool": (_flag, "true or false"),
    "string": (_text, EXPECTED["string"]),
    "timestamp": (_instant, EXPECTED["timestamp"]),
}

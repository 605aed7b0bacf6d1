"""Feature values that come with the request and stand in for those of the online store.

A recipe lists which features may be given so. A value given as null counts as missing; one that is
not given is read from the online store as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from contract.bundle import Bundle
from contract.values import FLOAT32_MAX, FeatureValue, beyond_float32
from serving.features.online import EXPECTED, INT32_RANGE, INT64_RANGE, OnlineRow
from serving.http_errors import InvalidFeatureOverrideError

OVERRIDDEN = "overridden"
"""The status of a feature whose value came with the request."""


class FeatureOverrides:
    """Which features of one bundle a request may override; false if there is none."""

    def __init__(self, bundle: Bundle) -> None:
        self._features = {
            feature.name: (position, feature.dtype)
            for position, feature in enumerate(bundle.features)
            if feature.overridable
        }

    def __bool__(self) -> bool:
        return bool(self._features)

    def read(self, given: object) -> dict[int, FeatureValue]:
        """Return the values that a request gives for one row, by position in `bundle.features`.

        Parameters
        ----------
        given
            An object of values by feature name, as it came; None = nothing is overridden.

        Raises
        ------
        InvalidFeatureOverrideError
            Naming the feature that may not be overridden, or whose value is of another type.
        """
        if given is None:
            return {}
        if not isinstance(given, dict):
            raise InvalidFeatureOverrideError("feature_overrides of a row are an object of values")
        values = {}
        for name, value in given.items():
            if name not in self._features:
                known = ", ".join(self._features) or "none"
                raise InvalidFeatureOverrideError(
                    f"{name!r} may not be overridden; those that may are {known}"
                )
            position, dtype = self._features[name]
            fits, expected = _TYPES[dtype]
            if value is not None and not fits(value):
                raise InvalidFeatureOverrideError(f"{name} must be {expected}, or null")
            if dtype in {"float64", "float32"} and abs(value or 0) > FLOAT32_MAX:
                raise InvalidFeatureOverrideError(f"{name}: {beyond_float32(value)}")
            values[position] = value
        return values


def overridden(row: OnlineRow, values: Mapping[int, FeatureValue]) -> OnlineRow:
    """Return the row with these values, by position; theirs is no age."""
    seen, statuses, ages = list(row.values), list(row.statuses), list(row.ages)
    for position, value in values.items():
        seen[position], statuses[position], ages[position] = value, OVERRIDDEN, None
    return OnlineRow(seen, statuses, ages, row.times)


_NUMBER = (lambda value: type(value) in {int, float}, "a number")
_TYPES: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "int64": (lambda value: type(value) is int and value in INT64_RANGE, EXPECTED["int64"]),
    "int32": (lambda value: type(value) is int and value in INT32_RANGE, EXPECTED["int32"]),
    "float64": _NUMBER,
    "float32": _NUMBER,
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "string": (lambda value: isinstance(value, str), EXPECTED["string"]),
}

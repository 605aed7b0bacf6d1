"""Feature values that come with the request and stand in for those of the online store.

A recipe lists which features may be given so. A value given as null counts as missing; one that is
not given is read from the online store as ever.
"""

from __future__ import annotations

from collections.abc import Mapping

from contract.bundle import Bundle
from contract.values import FeatureValue
from serving.features.given_values import GivenValueError, given_value
from serving.features.online_row import OnlineRow
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
        values: dict[int, FeatureValue] = {}
        for name, value in given.items():
            if name not in self._features:
                known = ", ".join(self._features) or "none"
                raise InvalidFeatureOverrideError(
                    f"{name!r} may not be overridden; those that may are {known}"
                )
            position, dtype = self._features[name]
            try:
                values[position] = given_value(dtype, value)
            except GivenValueError as err:
                raise InvalidFeatureOverrideError(f"{name}{err}") from None
        return values


def overridden(row: OnlineRow, values: Mapping[int, FeatureValue]) -> OnlineRow:
    """Return the row with these values, by position."""
    seen, statuses = list(row.values), list(row.statuses)
    for position, value in values.items():
        seen[position], statuses[position] = value, OVERRIDDEN
    return OnlineRow(seen, statuses, row.read_at, row.times)

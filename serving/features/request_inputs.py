"""Model inputs that clients send beside the entity keys, in the same object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from contract.bundle import Bundle
from contract.values import FeatureValue
from serving.features.given_values import GivenValueError, given_value
from serving.http_errors import InvalidEntityRowError

REQUEST = "request"
"""The status of a model input that clients send."""


class RequestInputs:
    """The request inputs of one bundle; false if it has none."""

    def __init__(self, bundle: Bundle) -> None:
        self._dtypes = {given.name: given.dtype for given in bundle.request}

    def __bool__(self) -> bool:
        return bool(self._dtypes)

    def read(self, entity_row: Mapping[str, object]) -> Sequence[FeatureValue]:
        """Return the values of one row in the order of `bundle.request`; None for null.

        Raises
        ------
        InvalidEntityRowError
            Naming the input that is missing or of the wrong type. To leave one out by mistake
            would be a silent null, so null is written out.
        """
        values = []
        for name, dtype in self._dtypes.items():
            if name not in entity_row:
                raise InvalidEntityRowError(f"{name} is missing; send null if it is not known")
            try:
                values.append(given_value(dtype, entity_row[name]))
            except GivenValueError as err:
                raise InvalidEntityRowError(f"{name}{err}") from None
        return values

"""An entity row of a request: its keys checked, and encoded as Feast's Redis keys have them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from contract.bundle import Bundle, BundleKey
from contract.feast_format import number_head, string_key
from serving.http_errors import InvalidEntityRowError

INT32_RANGE = range(-(2**31), 2**31)
INT64_RANGE = range(-(2**63), 2**63)
_INT32, _INT64, _TIMESTAMP = map(number_head, ("int32", "int64", "timestamp"))
_pack_int32, _pack_int64 = struct.Struct("<8si").pack, struct.Struct("<8sq").pack
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


class EntityKeys:
    """The entity keys of one bundle.

    Attributes
    ----------
    names
        Their names, in the order that `encode` returns them in.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.names = [key.name for key in bundle.entity_keys]
        self._dtypes = {key.name: key.dtype for key in bundle.entity_keys}
        self._encoders = [(key.name, _KEY_ENCODERS[key.dtype]) for key in bundle.entity_keys]
        self._request = {given.name for given in bundle.request}
        self._width = len(self.names) + len(self._request)

    def encode(self, entity_row: object) -> list[bytes]:
        """Return the row's keys, encoded.

        Raises
        ------
        InvalidEntityRowError
            Naming the key that is missing, unknown or of the wrong type.
        """
        if not isinstance(entity_row, dict):
            raise InvalidEntityRowError("an entity row is an object of entity keys")
        try:
            encoded = [encode(entity_row[name]) for name, encode in self._encoders]
        except (KeyError, TypeError, ValueError):
            self._refuse_wrong(entity_row)
            raise
        if len(entity_row) != self._width:
            self._refuse_unknown(entity_row)
        return encoded

    def _refuse_wrong(self, entity_row: Mapping[str, object]) -> None:
        """Raise for the first key that is missing or of the wrong type."""
        for name, encode in self._encoders:
            try:
                encode(entity_row[name])
            except KeyError:
                raise InvalidEntityRowError(f"{name} is missing") from None
            except (TypeError, ValueError):
                wanted = EXPECTED[self._dtypes[name]]
                raise InvalidEntityRowError(f"{name} must be {wanted}") from None

    def _refuse_unknown(self, entity_row: Mapping[str, object]) -> None:
        """Raise unless every name is an entity key's or a request input's."""
        unknown = sorted(map(str, entity_row.keys() - set(self.names) - self._request))
        if not unknown:
            return  # one is missing
        known = ", ".join(sorted(self.names)) or "none"
        told = f"{unknown[0]!r} is not an entity key; those are {known}"
        if self._request:
            told = (
                f"{unknown[0]!r} is neither an entity key ({known}) nor a request input "
                f"({', '.join(sorted(self._request))})"
            )
        raise InvalidEntityRowError(told)


def _encode_int64(value: object) -> bytes:
    if type(value) is not int or value not in INT64_RANGE:
        raise ValueError
    return _pack_int64(_INT64, value)


def _encode_int32(value: object) -> bytes:
    if type(value) is not int or value not in INT32_RANGE:
        raise ValueError
    return _pack_int32(_INT32, value)


def _encode_string(value: object) -> bytes:
    if not isinstance(value, str):
        raise TypeError
    return string_key(value)


def _encode_timestamp(value: object) -> bytes:
    if not isinstance(value, str):
        raise TypeError
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError
    return _pack_int64(_TIMESTAMP, (moment - _EPOCH) // _SECOND)


_KEY_ENCODERS: dict[str, Callable[[object], bytes]] = {
    "int64": _encode_int64,
    "int32": _encode_int32,
    "string": _encode_string,
    "timestamp": _encode_timestamp,
}
EXPECTED = {
    "int64": "an integer of 64 bits",
    "int32": "an integer of 32 bits",
    "string": "a string",
    "timestamp": "an ISO 8601 time with its zone, such as 2026-01-31T12:00:00Z",
}
"""What each entity key dtype wants, in words."""


def entity_key_schema(key: BundleKey) -> dict[str, object]:
    """Return the JSON Schema of one entity key, for OpenAPI."""
    schema = dict(_SCHEMAS[key.dtype])
    if key.description:
        schema["description"] = key.description
    if key.example is not None:
        schema["examples"] = [key.example]
    return schema


_SCHEMAS: dict[str, dict[str, object]] = {
    "int64": {"type": "integer", "format": "int64", "minimum": -(2**63), "maximum": 2**63 - 1},
    "int32": {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1},
    "string": {"type": "string"},
    "timestamp": {"type": "string", "format": "date-time"},
}

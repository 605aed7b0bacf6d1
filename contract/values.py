"""Decode Feast's `ValueProto` and protobuf's `Timestamp`: a tag, then the value; encode varints.

A decoder returns None for NULL (an empty message, or `null_val`) and NaN, and raises one of
UNREADABLE for a value of another type, one that is cut off, or a number that no model can take.
Source: feast/types/Value.proto; protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import groupby

FeatureValue = int | float | str | datetime | None
"""An exact value as Python has it; bool is an int."""
UNREADABLE = (ValueError, IndexError, struct.error)
"""What decoding raises for bytes that are not what they should be."""

FLOAT32_MAX = 3.4028234663852886e38
"""The largest number that a model, which computes in float32, can take."""
_LEAST = -FLOAT32_MAX
CAP_IT = "cap it in the feature mart's SQL, or make it null there"
"""What to do about a feature that is larger, or infinite."""

_NULL_TAG = b"\x98\x01"  # field 19, varint
_SIGN = 1 << 63
_WRAP = 1 << 64
# The years 1 to 9999, but for the last second, which a fraction may round up to the year 10000.
_TIMES = range(-62_135_596_800, 253_402_300_799)
_NANOS = range(1_000_000_000)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NULL_TIME = -(2**63)  # what Feast writes for a NULL beside other times
_double = struct.Struct("<d").unpack_from
_float = struct.Struct("<f").unpack_from


def beyond_float32(value: float) -> str:
    """Return what is wrong with a number that no model can take, the same for every reader."""
    return f"{value:g} is not between -{FLOAT32_MAX:.3g} and {FLOAT32_MAX:.3g}"


class BeyondFloat32Error(ValueError):
    """A number that no model can take."""


@lru_cache(maxsize=4096)  # rows materialized together, or one per day, share their event time
def decode_timestamp(data: bytes) -> float:
    """Return a `Timestamp` as Unix seconds."""
    seconds = nanos = position = 0
    while position < len(data):
        tag = data[position]
        number, position = _varint(data, position + 1)
        if tag == 0x08:
            seconds = _signed(number)
        elif tag == 0x10:
            nanos = _signed(number)
        else:
            raise ValueError("not a Timestamp")
    if seconds not in _TIMES or nanos not in _NANOS:
        raise ValueError("not a time of the years 1 to 9999")
    return seconds + nanos / 1e9


def encode_varint(number: int) -> bytes:
    """Return a number as protobuf's varint; negative ones are their two's complement."""
    rest = number % _WRAP
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the number at `position` and where it ends."""
    byte = data[position]
    if byte < 0x80:
        return byte, position + 1
    number = byte & 0x7F
    for shift in range(7, 63, 7):
        position += 1
        byte = data[position]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position + 1
    if data[position + 1] != 1:  # a tenth byte holds the sign, and nothing else
        raise ValueError("a number of more than 64 bits")
    return number | _SIGN, position + 2


def _signed(number: int) -> int:
    return number - _WRAP if number & _SIGN else number


def _require_null(data: bytes) -> None:
    if data and data[:2] != _NULL_TAG:
        raise ValueError("a value of another type")


def _integer(tag: int) -> Callable[[bytes], int | None]:
    def decode(data: bytes) -> int | None:
        if data and data[0] == tag:
            byte = data[1]
            return byte if byte < 0x80 else _signed(_varint(data, 1)[0])
        _require_null(data)
        return None

    return decode


def _decode_bool(data: bytes) -> bool | None:
    if data and data[0] == 0x38:
        return data[1] != 0
    _require_null(data)
    return None


def _require_nan(value: float) -> None:
    """Return if it is NaN, which training takes as missing; else no model can take it."""
    if value == value:
        raise BeyondFloat32Error(beyond_float32(value))


def _decode_double(data: bytes) -> float | None:
    if data and data[0] == DOUBLE_TAG:
        (value,) = _double(data, 1)
        if _LEAST <= value <= FLOAT32_MAX:
            return value  # type: ignore[no-any-return] # typeshed knows no formats
        _require_nan(value)
        return None
    _require_null(data)
    return None


def _decode_float(data: bytes) -> float | None:
    if data and data[0] == 0x35:
        (value,) = _float(data, 1)
        if _LEAST <= value <= FLOAT32_MAX:
            return value  # type: ignore[no-any-return]
        _require_nan(value)
        return None
    _require_null(data)
    return None


def _decode_string(data: bytes) -> str | None:
    if data and data[0] == 0x12:
        length, start = _varint(data, 1)
        if len(data) != start + length:
            raise ValueError("a text that is cut off")
        return data[start:].decode()
    _require_null(data)
    return None


def _decode_time(data: bytes) -> datetime | None:
    """Return a time of whole seconds."""
    if data and data[0] == 0x40:
        seconds = _signed(_varint(data, 1)[0])
        if seconds != _NULL_TIME:
            if seconds not in _TIMES:
                raise ValueError("not a time of the years 1 to 9999")
            return _EPOCH + timedelta(seconds=seconds)
        return None
    _require_null(data)
    return None


DECODERS: dict[str, Callable[[bytes], FeatureValue]] = {
    "int32": _integer(0x18),
    "int64": _integer(0x20),
    "float64": _decode_double,
    "float32": _decode_float,
    "bool": _decode_bool,
    "string": _decode_string,
    "timestamp": _decode_time,
}
"""By feature dtype: bytes of a `ValueProto` to the exact Python value, or None for NULL."""

DOUBLE_TAG = 0x29
"""A float64 is this byte, then its own eight in little-endian order."""

StoredValues = Sequence[bytes | None]
"""None where nothing is stored."""
RunDecoder = Callable[[StoredValues], Sequence[FeatureValue]]


def run_decoders(dtypes: Sequence[str]) -> list[tuple[slice, RunDecoder]]:
    """Return what decodes the values of features that follow each other, and which of them.

    Values of float64 that follow each other are decoded together, in a third of the time.
    """
    decoders: list[tuple[slice, RunDecoder]] = []
    start = 0
    for are_doubles, run in groupby(dtypes, lambda dtype: dtype == "float64"):
        own = list(run)
        decode = _decoder_of_doubles(len(own)) if are_doubles else _decoder_of_each(own)
        decoders.append((slice(start, start + len(own)), decode))
        start += len(own)
    return decoders


def _decoder_of_each(dtypes: Sequence[str]) -> RunDecoder:
    decoders = [DECODERS[dtype] for dtype in dtypes]

    def decode(stored: StoredValues) -> Sequence[FeatureValue]:
        return [
            None if data is None else read(data)
            for read, data in zip(decoders, stored, strict=True)
        ]

    return decode


def decode_doubles(stored: Sequence[bytes]) -> Sequence[float] | None:
    """Return float64 values, all at once.

    None if they must be decoded one by one: one is null, or no model could take it.
    """
    count = len(stored)
    packed = b"".join(stored)
    if max(map(len, stored)) == 9 and len(packed) == 9 * packed[::9].count(DOUBLE_TAG) == 9 * count:
        values: Sequence[float] = struct.unpack("<" + "xd" * count, packed)
        if math.hypot(*values) <= FLOAT32_MAX:  # so is each of them, and none is NaN
            return values
    return None


def _decoder_of_doubles(count: int) -> RunDecoder:
    decode_each = _decoder_of_each(["float64"] * count)

    def decode(stored: StoredValues) -> Sequence[FeatureValue]:
        values = decode_doubles(stored) if all(stored) else None  # type: ignore[arg-type] # no None
        return decode_each(stored) if values is None else values

    return decode

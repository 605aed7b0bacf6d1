r"""Feast's Redis format, encoded column by column: Arrow arrays in, RESP fragments out.

`contract.feast_format` says what that is.

Every encoder returns one `bytes` per row, already framed as a RESP bulk string (`$<length>\r\n…`)
behind a constant `head`. A protobuf object per value would cost 10 times as much; fixed-width
values are laid out by numpy as one matrix of bytes.

Null rule: NULL and NaN are an empty `ValueProto`, as Feast writes them. (Feast writes a NULL
timestamp as the number -2^63 when its batch has any other; here it is always empty.)
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from contract.feast_format import NUMBER_KEYS, STRING_KEY, key_prefix, number_head, string_key
from contract.values import UNREADABLE, decode_timestamp, encode_varint

Fragments = list[bytes]
Bytes = npt.NDArray[np.uint8]

_END = b"\r\n"


def bulk(data: bytes) -> bytes:
    """Return `data` as a RESP bulk string."""
    return b"$%d\r\n%b\r\n" % (len(data), data)


def unframed(framed: bytes) -> bytes:
    """Return what `bulk` has framed."""
    return framed[framed.index(b"\n") + 1 : -2]


# --- entity keys ---


class KeyFormat:
    """The Redis keys of one set of entities.

    Parameters
    ----------
    project
        Feast's project name.
    dtypes
        Join key → dtype (`int64`, `int32`, `string`, `timestamp`); empty for a view without
        entities.
    """

    def __init__(self, project: str, dtypes: Mapping[str, str]) -> None:
        self.names = sorted(dtypes)  # Feast orders join keys by name
        self._dtypes = [dtypes[name] for name in self.names]
        self.prefix = key_prefix(self.names)
        self._suffix = project.encode()

    def encode(self, columns: Mapping[str, pa.Array], n_rows: int) -> Fragments:
        """Return the Redis key of each row; join keys must not be null."""
        if not self.names:
            return [self.prefix + string_key("") + self._suffix] * n_rows
        parts = [
            _encode_key(columns[name], dtype)
            for name, dtype in zip(self.names, self._dtypes, strict=True)
        ]
        prefix, suffix = self.prefix, self._suffix
        if len(parts) == 1:
            return [prefix + part + suffix for part in parts[0]]
        return [b"".join((prefix, *row, suffix)) for row in zip(*parts, strict=True)]

    def decode(self, key: bytes) -> tuple[int | str, ...] | None:
        """Return the join key values (in order of `names`), or None if it is another kind of key.

        Timestamps are whole seconds.
        """
        if not (key.startswith(self.prefix) and key.endswith(self._suffix)):
            return None
        end = len(key) - len(self._suffix)
        at = len(self.prefix)
        values: list[int | str] = []
        for dtype in self._dtypes or ["string"]:
            if at + 8 > end:
                return None
            kind, length = struct.unpack_from("<II", key, at)
            data = key[at + 8 : min(at + 8 + length, end)]
            value = _decode_key(kind, data, dtype) if len(data) == length else None
            if value is None:
                return None
            values.append(value)
            at += 8 + length
        return tuple(values[: len(self.names)]) if at == end else None


def is_entity_key(key: bytes, project: str) -> bool:
    """Return whether `key` is a Redis key of `project`'s entities, whatever they are."""
    (count,) = struct.unpack_from("<I", key.ljust(4, b"\xff"))
    at = 4
    for _ in range(2 * count):  # names, then values
        if at + 8 > len(key):
            return False
        at += 8 + int.from_bytes(key[at + 4 : at + 8], "little")
    return count > 0 and key[at:] == project.encode()


def _encode_key(array: pa.Array, dtype: str) -> Fragments:
    if dtype == "string":
        return [string_key(value) for value in array.to_pylist()]
    head, (_, step) = number_head(dtype), NUMBER_KEYS[dtype]
    numbers = (_seconds(array) if dtype == "timestamp" else array.to_numpy()).astype(f"<i{step}")
    # Not through _rows: a key may end in zero bytes, which numpy's S type drops.
    body = numbers.tobytes()
    return [head + body[at : at + step] for at in range(0, len(body), step)]


def _decode_key(kind: int, data: bytes, dtype: str) -> int | str | None:
    if dtype == "string":
        return _text(data) if kind == STRING_KEY else None
    if (kind, len(data)) != NUMBER_KEYS[dtype]:
        return None
    return int.from_bytes(data, "little", signed=True)


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


# --- event times ---


def encode_times(times: pa.Array) -> Fragments:
    """Return each event time (timestamp[us], not null) as a `Timestamp` message."""
    micros = _micros(times)
    seconds = micros // 1_000_000  # floored, so nanos are never negative
    nanos = (micros - seconds * 1_000_000) * 1_000
    second_part = _varints(seconds, b"\x08", framed=False)
    nano_part = _varints(nanos, b"\x10", framed=False)
    for part, numbers in ((second_part, seconds), (nano_part, nanos)):
        part[numbers == 0] = b""  # proto3 leaves out what is zero
    return [first + second for first, second in zip(second_part, nano_part, strict=True)]


def stored_time(data: bytes) -> float:
    """Return a stored event time as Unix seconds; one that cannot be read is older than any."""
    try:
        return decode_timestamp(data)
    except UNREADABLE:
        return -math.inf


# --- feature values ---


def encode_values(array: pa.Array, dtype: str, head: bytes = b"") -> Fragments:
    """Return `head` and each value as a framed `ValueProto`.

    Parameters
    ----------
    array
        Of the Arrow type that the warehouse gives for `dtype`; may hold nulls.
    dtype
        `int64`, `int32`, `float64`, `float32`, `string`, `bool` or `timestamp`.
    """
    out = _ENCODERS[dtype](array, head)
    null = pc.is_null(array, nan_is_null=True).to_numpy(zero_copy_only=False)
    if null.any():
        out[null] = head + b"$0\r\n\r\n"
    values: Fragments = out.tolist()
    return values


def _encode_integers(tag: bytes) -> Callable[[pa.Array, bytes], npt.NDArray[np.object_]]:
    def encode(array: pa.Array, head: bytes) -> npt.NDArray[np.object_]:
        return _varints(_filled(array, 0).astype(np.int64), tag, head)

    return encode


def _encode_timestamps(array: pa.Array, head: bytes) -> npt.NDArray[np.object_]:
    return _varints(_seconds(array), b"\x40", head)


def _encode_floats(tag: bytes, width: str) -> Callable[[pa.Array, bytes], npt.NDArray[np.object_]]:
    def encode(array: pa.Array, head: bytes) -> npt.NDArray[np.object_]:
        numbers = _filled(array, 0.0).astype(width)
        start = head + b"$%d\r\n" % (1 + numbers.itemsize) + tag
        return _rows(start, numbers.view(np.uint8).reshape(-1, numbers.itemsize))

    return encode


def _encode_bools(array: pa.Array, head: bytes) -> npt.NDArray[np.object_]:
    both = np.array([head + b"$2\r\n\x38\x00\r\n", head + b"$2\r\n\x38\x01\r\n"], dtype=object)
    picked: npt.NDArray[np.object_] = both[_filled(array, False).astype(np.int8)]
    return picked


def _encode_strings(array: pa.Array, head: bytes) -> npt.NDArray[np.object_]:
    encoded = array.dictionary_encode()
    texts = [_frame_text(head, text or "") for text in encoded.dictionary.to_pylist()] or [b""]
    picked: npt.NDArray[np.object_] = np.array(texts, dtype=object)[_filled(encoded.indices, 0)]
    return picked


def _frame_text(head: bytes, text: str) -> bytes:
    raw = text.encode()
    return head + bulk(b"\x12" + encode_varint(len(raw)) + raw)


_ENCODERS: dict[str, Callable[[pa.Array, bytes], npt.NDArray[np.object_]]] = {
    "int32": _encode_integers(b"\x18"),
    "int64": _encode_integers(b"\x20"),
    "float64": _encode_floats(b"\x29", "<f8"),
    "float32": _encode_floats(b"\x35", "<f4"),
    "bool": _encode_bools,
    "string": _encode_strings,
    "timestamp": _encode_timestamps,
}


# --- building blocks ---


def _filled(array: pa.Array, value: object) -> npt.NDArray[np.generic]:
    filled = array.fill_null(pa.scalar(value, array.type)) if array.null_count else array
    numbers: npt.NDArray[np.generic] = filled.to_numpy(zero_copy_only=False)
    return numbers


def _micros(times: pa.Array) -> npt.NDArray[np.int64]:
    numbers = times.cast(pa.timestamp("us", times.type.tz)).cast(pa.int64())
    return _filled(numbers, 0).astype(np.int64)


def _seconds(times: pa.Array) -> npt.NDArray[np.int64]:
    return _micros(times) // 1_000_000


def _varints(
    numbers: npt.NDArray[np.int64], tag: bytes, head: bytes = b"", *, framed: bool = True
) -> npt.NDArray[np.object_]:
    """Return each number as tag and base-128 varint, one pass per length that occurs (1 to 10)."""
    rest = numbers.astype(np.uint64)  # negative numbers are their two's complement: 10 bytes
    lengths = np.ones(len(rest), dtype=np.int8)
    largest = int(rest.max(initial=0))
    for bits in range(7, largest.bit_length(), 7):
        lengths += rest >= np.uint64(1 << bits)
    out = np.empty(len(rest), dtype=object)
    for length in np.unique(lengths).tolist():
        chosen = lengths == length
        shifts = np.arange(0, 7 * length, 7, dtype=np.uint64)
        digits = ((rest[chosen, None] >> shifts) & np.uint64(0x7F)).astype(np.uint8)
        digits[:, :-1] |= 0x80
        start = head + b"$%d\r\n" % (1 + length) + tag if framed else tag
        out[chosen] = _rows(start, digits, _END if framed else b"")
    return out


def _rows(start: bytes, body: Bytes, end: bytes = _END) -> npt.NDArray[np.object_]:
    """Return `start`, a row of `body` and `end` for each row of `body`."""
    if not end:
        return np.array([start + row.tobytes() for row in body], dtype=object)
    width = len(start) + body.shape[1] + len(end)
    matrix = np.empty((len(body), width), dtype=np.uint8)
    matrix[:, : len(start)] = np.frombuffer(start, dtype=np.uint8)
    matrix[:, len(start) : -len(end)] = body
    matrix[:, -len(end) :] = np.frombuffer(end, dtype=np.uint8)
    # numpy drops zero bytes at the end of an S item; a row ends with a line feed.
    return matrix.view(f"S{width}")[:, 0].astype(object)


def join_rows(columns: Sequence[Fragments]) -> list[bytes]:
    """Return each row's fragments joined."""
    return list(map(b"".join, zip(*columns, strict=True)))

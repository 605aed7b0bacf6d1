"""Rows that are pushed to a feature view: checked, and encoded as Feast has them in Redis."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import uuid4

from contract.event_format import EventTable, PushedView
from contract.event_values import BadEventError, EventReader, EventValue
from contract.feast_format import (
    NUMBER_KEYS,
    field_hash,
    key_prefix,
    number_head,
    string_key,
    time_field,
)
from contract.values import encode_varint

AHEAD = timedelta(minutes=1)
"""How far a client's clock may be ahead: a later row would keep all others out."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
PushedValues = Sequence[EventValue]
"""A row's values in the order of the raw table's columns."""


class PushWrite(NamedTuple):
    """A call of the script WRITE: no lease, and nothing newer is replaced.

    Attributes
    ----------
    key
        The name of the entity's hash.
    arguments
        Its ARGV.
    """

    key: bytes
    arguments: list[bytes]

    @classmethod
    def of(
        cls, key: bytes, view: str, ttl: int | None, moment: datetime, features: Sequence[bytes]
    ) -> PushWrite:
        """Return the write of one row.

        Parameters
        ----------
        ttl
            Seconds that Redis keeps the key; None: for ever.
        features
            Field and value in turn.
        """
        order = [b"", b"%d" % (ttl or 0), b""]
        return cls(key, [*order, time_field(view), encode_time(moment), *features])

    def command(self, *script: bytes | str) -> tuple[bytes | str, ...]:
        """Return the command; `script` is EVAL and its text, or EVALSHA and its sha."""
        return (*script, b"1", self.key, *self.arguments)


class PushedRows:
    """Reads and encodes the rows of one view.

    Attributes
    ----------
    columns
        Names, in the order of the values that `read_at` returns.
    """

    def __init__(self, table: EventTable, project: str) -> None:
        assert table.view is not None  # noqa: S101 - events are not pushed
        view: PushedView = table.view
        self._reader = EventReader(table)
        self.columns = self._reader.columns
        self._view = view
        self._id_column = table.id_column
        self._project = project.encode()
        names = sorted(view.keys)  # as Feast orders them
        self._prefix = key_prefix(names) + (b"" if names else string_key(""))
        self._keys = [(self.columns.index(name), view.keys[name]) for name in names]
        self._time = self.columns.index(view.timestamp)
        self._features = [
            (self.columns.index(name), field_hash(view.name, name), _ENCODERS[dtype])
            for name, dtype in view.features.items()
        ]

    def read_at(self, now: datetime, row: object, given_id: str | None) -> list[EventValue]:
        """Return a row's values.

        A row without an id gets one of its own, and its event time is `now` if it has none.

        Raises
        ------
        BadEventError
            If it lacks a feature: to leave one out by mistake would be a silent null. If it has an
            id but no event time: a retry, which the raw table takes for the same row, would have a
            later one. If its event time is too far ahead. As `EventReader.read`.
        """
        if isinstance(row, dict):
            for name in self._view.features:
                if name not in row:
                    raise BadEventError(f"{name} is missing; send null if it is not known")
            if row.get(self._view.timestamp) is None:
                if given_id is not None or row.get(self._id_column) is not None:
                    raise BadEventError(
                        f"{self._view.timestamp} is missing: a retry would give it another time"
                    )
                row = {**row, self._view.timestamp: now.isoformat()}
        values = self._reader.read(row, given_id or uuid4().hex)
        if self._event_time(values) > now + AHEAD:
            raise BadEventError(
                f"{self._view.timestamp} is more than a minute ahead of the server's clock"
            )
        return values

    def key(self, values: PushedValues) -> bytes:
        """Return the name of the entity's hash."""
        parts = [_encoded_key(dtype, values[position]) for position, dtype in self._keys]
        return b"".join([self._prefix, *parts, self._project])

    def writes(self, rows: Sequence[PushedValues]) -> list[PushWrite]:
        """Return how each row is written."""
        return [self._write(row) for row in rows]

    def _write(self, values: PushedValues) -> PushWrite:
        features: list[bytes] = []
        for position, field, encode in self._features:
            value = values[position]
            features += [field, b"" if value is None else encode(value)]
        view, moment = self._view, self._event_time(values)
        return PushWrite.of(self.key(values), view.name, view.key_ttl_seconds, moment, features)

    def _event_time(self, values: PushedValues) -> datetime:
        return datetime.fromisoformat(str(values[self._time]))


def encode_time(moment: datetime) -> bytes:
    """Return an instant as protobuf's `Timestamp`, which leaves out what is zero."""
    seconds, rest = divmod(moment - _EPOCH, _SECOND)
    nanos = rest.microseconds * 1_000
    encoded = b"\x08" + encode_varint(seconds) if seconds else b""
    return encoded + b"\x10" + encode_varint(nanos) if nanos else encoded


def _encoded_key(dtype: str, value: EventValue) -> bytes:
    if dtype == "string":
        return string_key(str(value))
    number = _seconds(value) if dtype == "timestamp" else value
    assert isinstance(number, int)  # noqa: S101 - it was read as one
    _, width = NUMBER_KEYS[dtype]
    return number_head(dtype) + number.to_bytes(width, "little", signed=True)


def _seconds(value: EventValue) -> int:
    return (datetime.fromisoformat(str(value)) - _EPOCH) // _SECOND


def _integer(tag: bytes) -> Callable[[EventValue], bytes]:
    def encode(value: EventValue) -> bytes:
        assert isinstance(value, int)  # noqa: S101 - it was read as one
        return tag + encode_varint(value)

    return encode


def _text(value: EventValue) -> bytes:
    raw = str(value).encode()
    return b"\x12" + encode_varint(len(raw)) + raw


_ENCODERS: Mapping[str, Callable[[EventValue], bytes]] = {
    "int32": _integer(b"\x18"),
    "int64": _integer(b"\x20"),
    "float64": lambda value: b"\x29" + struct.pack("<d", value),
    "float32": lambda value: b"\x35" + struct.pack("<f", value),
    "bool": lambda value: b"\x38\x01" if value else b"\x38\x00",
    "string": _text,
    "timestamp": lambda value: b"\x40" + encode_varint(_seconds(value)),
}
"""By feature dtype: a value as a `ValueProto`."""

"""Checks events against the columns of their table, one by one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime

import orjson

from contract.event_format import EventColumn, EventTable

EventValue = str | int | float | bool | dict[str, object] | list[object] | None
"""A value as JSON has it; times and dates are texts."""
_ID_CHARACTERS = 256
_JSON_DIGITS = 15
_DIGITS = re.compile(r"[0-9]")
_NUMBER = re.compile(r"-?([0-9]+)(?:\.([0-9]+))?")  # \d is any alphabet's digit


class BadEventError(ValueError):
    """An event that its table cannot take; the message says which column, and what it expects."""


class EventReader:
    """Reads the events of one table.

    Attributes
    ----------
    columns
        Names, in the order of the values that `read` returns.
    """

    def __init__(self, table: EventTable) -> None:
        self.columns = [column.name for column in table.columns]
        self._table = table
        self._readers = [(column, _READERS[column.dtype]) for column in table.columns]
        self._names = frozenset(self.columns)

    def read(self, event: object, given_id: str | None) -> list[EventValue]:
        """Return an event's values, null for a column that it does not have.

        Parameters
        ----------
        given_id
            The event's id, unless it has one itself; None: it must have one.

        Raises
        ------
        BadEventError
            Naming the first column that is wrong.
        """
        if not isinstance(event, dict):
            raise BadEventError("an event must be an object of columns")
        if unknown := event.keys() - self._names:
            raise BadEventError(f"{min(unknown)!r} is not a column of {self._table.name}")
        values: list[EventValue] = []
        for column, read in self._readers:
            value = event.get(column.name)
            if column.name == self._table.id_column:
                value = given_id if value is None else value
                _check_id(column.name, value)
            if value is None:
                if column.required:
                    raise BadEventError(f"{column.name} is missing or null")
                values.append(None)
                continue
            try:
                values.append(read(column, value))
            except (TypeError, ValueError, OverflowError) as err:
                reason = str(err) if isinstance(err, BadEventError) else EXPECTED[column.dtype]
                raise BadEventError(f"{column.name} must be {reason}") from None
        return values


def _check_id(name: str, value: object) -> None:
    if value is None or value == "":
        raise BadEventError(
            f"{name} is missing: without this id, a retry would add the event again"
        )
    if isinstance(value, str) and len(value) > _ID_CHARACTERS:
        raise BadEventError(f"{name} must be a text of at most {_ID_CHARACTERS} characters")


def _whole(bits: int) -> Callable[[EventColumn, object], int]:
    limits = range(-(2 ** (bits - 1)), 2 ** (bits - 1))

    def read(_: EventColumn, value: object) -> int:
        if type(value) is not int or value not in limits:
            raise TypeError
        return value

    return read


def _float(column: EventColumn, value: object) -> float:
    if type(value) is not float and type(value) is not int:
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise TypeError
    if column.limit is not None and abs(number) > column.limit:
        raise BadEventError(f"a number between -{column.limit:.3g} and {column.limit:.3g}")
    return number


def _flag(_: EventColumn, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _text(column: EventColumn, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    if "\0" in value:
        raise BadEventError("a text without the character U+0000")
    if column.length is not None and len(value) > column.length:
        raise BadEventError(f"a text of at most {column.length} characters")
    return value


def _instant(column: EventColumn, value: object) -> str:
    moment = datetime.fromisoformat(_text(column, value))
    if moment.tzinfo is None:
        raise ValueError
    return moment.astimezone(UTC).isoformat()


def _day(column: EventColumn, value: object) -> str:
    return date.fromisoformat(_text(column, value)).isoformat()


def _numeric(column: EventColumn, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    text = str(value)
    if isinstance(value, float) and len(_DIGITS.findall(text)) > _JSON_DIGITS:
        raise BadEventError('a text, such as "12.50": a JSON number keeps 15 digits')
    found = _NUMBER.fullmatch(text)
    before, after = column.digits or (29, 9)
    if found is None or len(found[1].lstrip("0")) > before or len(found[2] or "") > after:
        raise BadEventError(f"a number of at most {before} digits before the point, {after} after")
    return text


def _json(_: EventColumn, value: object) -> EventValue:
    dumped = orjson.dumps([[[value]]])  # as deep as an entry of the stream has it
    if b"\\u0000" in dumped:  # PostgreSQL's jsonb has no such character
        raise BadEventError("JSON without the character U+0000")
    assert isinstance(value, str | int | float | bool | dict | list)  # noqa: S101 - it was JSON
    return value


EXPECTED: Mapping[str, str] = {
    "int64": "a whole number of 64 bits",
    "int32": "a whole number of 32 bits",
    "int16": "a whole number of 16 bits",
    "float64": "a number",
    "float32": "a number",
    "string": "a text",
    "bool": "true or false",
    "timestamp": "an ISO 8601 time with its zone, such as 2026-03-01T12:00:00Z",
    "date": "an ISO 8601 date, such as 2026-03-01",
    "numeric": "a number",
    "json": "JSON of at most 250 levels",
}
"""By dtype: what clients should send."""
_READERS: Mapping[str, Callable[[EventColumn, object], EventValue]] = {
    "int64": _whole(64),
    "int32": _whole(32),
    "int16": _whole(16),
    "float64": _float,
    "float32": _float,
    "string": _text,
    "bool": _flag,
    "timestamp": _instant,
    "date": _day,
    "numeric": _numeric,
    "json": _json,
}

"""Rows of the raw table of a dbt source that takes events or pushed rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal

import orjson

from contract.event_format import RECEIVED_AT, EventTable
from contract.event_values import EventValue
from runner.errors import RunnerError
from runner.warehouse.collected_table import (
    CollectedColumn,
    CollectedRow,
    CollectedTable,
    CollectedValue,
    ColumnType,
)

_COLUMN_TYPES: Mapping[str, ColumnType] = {
    "int64": "bigint",
    "int32": "integer",
    "int16": "integer",
    "float64": "float",
    "float32": "float",
    "string": "text",
    "bool": "bool",
    "timestamp": "timestamp",
    "date": "date",
    "numeric": "numeric",
    "json": "json",
}
_REPEATED_WITHIN = timedelta(days=7)


def raw_table(table: EventTable) -> CollectedTable:
    """Return the raw table of an event table."""
    id_column = table.id_column
    declared = (
        CollectedColumn(column.name, _COLUMN_TYPES[column.dtype], required=column.name == id_column)
        for column in table.columns
    )
    return CollectedTable(
        table.relation,
        (CollectedColumn(RECEIVED_AT, "timestamp", required=True), *declared),
        key=(id_column,),
        day=RECEIVED_AT,
        repeated_within=_REPEATED_WITHIN,
    )


class RawRows:
    """Makes rows of the raw table of `table` from events' values."""

    def __init__(self, table: EventTable) -> None:
        self._table = table
        self._readers = {column.name: _READERS[column.dtype] for column in table.columns}

    def received(
        self, at: datetime, columns: Sequence[str], rows: Iterable[Sequence[EventValue]]
    ) -> list[CollectedRow]:
        """Return the rows of events that came together, a microsecond apart: their order is kept.

        Raises
        ------
        RunnerError
            If one has a column that the source no longer declares, or declares with another type.
        """
        return [
            self._row(at + timedelta(microseconds=n), columns, values)
            for n, values in enumerate(rows)
        ]

    def _row(
        self, received_at: datetime, columns: Sequence[str], values: Sequence[EventValue]
    ) -> CollectedRow:
        """Return an event's row, null for columns that are newer than it is."""
        event = dict(zip(columns, values, strict=True))
        for name, value in event.items():
            if name not in self._readers and value is not None:
                raise RunnerError(
                    f"{self._table.schema}.{self._table.relation}: waiting events have a column "
                    f"{name!r} that the dbt source no longer declares",
                    hint=f"declare {name} until they are collected",
                )
        return (received_at, *(self._value(name, event.get(name)) for name in self._readers))

    def _value(self, name: str, value: EventValue) -> CollectedValue:
        if value is None:
            return None
        try:
            return self._readers[name](value)
        except (TypeError, ValueError, ArithmeticError) as err:
            raise RunnerError(
                f"{self._table.schema}.{self._table.relation}: waiting events have a {name!r} "
                "that is not of the type that the dbt source declares now",
                hint=f"declare {name} with its earlier type until they are collected",
            ) from err


def _whole(value: EventValue) -> int:
    if type(value) is not int:
        raise TypeError
    return value


def _float(value: EventValue) -> float:
    if type(value) is not int and type(value) is not float:
        raise TypeError
    return float(value)


def _text(value: EventValue) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _flag(value: EventValue) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _instant(value: EventValue) -> datetime:
    moment = datetime.fromisoformat(_text(value))
    if moment.tzinfo is None:
        raise ValueError
    return moment


def _day(value: EventValue) -> date:
    return date.fromisoformat(_text(value))


def _numeric(value: EventValue) -> str:
    if isinstance(value, bool | dict | list):
        raise TypeError
    number = Decimal(str(value))
    if not number.is_finite():
        raise ValueError
    return f"{number:f}"


def _dumped(value: EventValue) -> str:
    return orjson.dumps(value).decode()


_READERS: Mapping[str, Callable[[EventValue], CollectedValue]] = {
    "int64": _whole,
    "int32": _whole,
    "int16": _whole,
    "float64": _float,
    "float32": _float,
    "string": _text,
    "bool": _flag,
    "timestamp": _instant,
    "date": _day,
    "numeric": _numeric,
    "json": _dumped,
}
"""By dtype: converts a waiting value for the warehouse; the type may be newer than the value."""

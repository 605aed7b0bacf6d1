"""Events as rows of their raw table: what a dbt source declares, and when each was received."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import orjson

from contract.event_format import EVENTS_FIELD, RECEIVED_AT, EventEntry, EventTable
from contract.event_values import EventValue
from runner.collecting.log_stream import Entry
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


class EventRows:
    """Reads the entries of one table's stream.

    Attributes
    ----------
    foreign
        Entries that no server of this version wrote.
    """

    def __init__(self, table: EventTable) -> None:
        self._table = table
        self._readers = {
            column.name: _CONVERTED.get(column.dtype, _as_it_is) for column in table.columns
        }
        self.foreign = 0

    def rows(self, entry: Entry) -> list[CollectedRow]:
        """Return an entry's rows; none where it is not one of events.

        Raises
        ------
        RunnerError
            If its events have a column that the source no longer declares: none is lost.
        """
        parsed = EventEntry.parse(entry[1].get(EVENTS_FIELD, b""))
        if parsed is None:
            self.foreign += 1
            return []
        received_at = datetime.fromtimestamp(parsed.received_at, UTC)
        return self.received(received_at, parsed.columns, parsed.rows)

    def received(
        self, at: datetime, columns: Sequence[str], rows: Iterable[Sequence[EventValue]]
    ) -> list[CollectedRow]:
        """Return the rows of events that came together, a microsecond apart: their order is kept.

        Raises
        ------
        RunnerError
            As `rows`.
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
        made = (
            None if (value := event.get(name)) is None else read(value)
            for name, read in self._readers.items()
        )
        return (received_at, *made)

    def committed(self) -> None:
        """Do nothing: events have no numbers, since none may be dropped."""


def _as_it_is(value: EventValue) -> CollectedValue:
    assert value is None or isinstance(value, str | int | float)  # noqa: S101 - not of JSON
    return value


def _instant(value: EventValue) -> datetime:
    return datetime.fromisoformat(str(value))


def _day(value: EventValue) -> date:
    return date.fromisoformat(str(value))


def _dumped(value: EventValue) -> str:
    return orjson.dumps(value).decode()


_CONVERTED: Mapping[str, Callable[[EventValue], CollectedValue]] = {
    "timestamp": _instant,
    "date": _day,
    "json": _dumped,
}

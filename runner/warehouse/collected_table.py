"""A raw table that `runner collect` fills, and how a warehouse writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal, Protocol

ColumnType = Literal[
    "text", "bigint", "integer", "float", "bool", "timestamp", "date", "numeric", "json"
]
CollectedValue = str | int | float | datetime | date | None
CollectedRow = Sequence[CollectedValue]
"""Values in the order of the table's columns; JSON and `numeric` as text."""


@dataclass(frozen=True)
class CollectedColumn:
    """A column; `required`: it has no null."""

    name: str
    type: ColumnType
    required: bool = False


@dataclass(frozen=True)
class CollectedTable:
    """A table that has each row once.

    `collected_at`, when a row was written, follows the columns.

    Attributes
    ----------
    key
        The columns that name a row.
    day
        The column whose day in UTC is a row's partition; PostgreSQL partitions only by a column of
        the key.
    repeated_within
        How much later a row may come again with another `day` and still be recognized. On
        PostgreSQL, which has an index, there is no limit.
    """

    name: str
    columns: tuple[CollectedColumn, ...]
    key: tuple[str, ...]
    day: str
    repeated_within: timedelta = timedelta(0)

    def position(self, column: str) -> int:
        """Return where a row has a column's value."""
        return [each.name for each in self.columns].index(column)


class CollectedStore(Protocol):
    """The table in a warehouse, made at the latest when the first rows come."""

    rows_at_once: int
    """How many rows are best written together."""

    def create(self) -> None:
        """Make the table unless it is there; add columns that it lacks."""

    def append(self, rows: Sequence[CollectedRow]) -> int:
        """Write the rows that are not there yet, all or none; return how many those were."""

    def delete_before(self, day: date) -> int:
        """Delete the rows of the days before; return how many."""

    def delete_where(self, column: str, name: str, values: Sequence[str]) -> int:
        """Delete the rows whose JSON `column` has one of `values` as `name`; return how many."""

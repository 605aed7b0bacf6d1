"""A raw table that `runner collect` fills, and how a warehouse writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, Protocol

ColumnType = Literal["text", "bigint", "float", "timestamp", "json"]
CollectedRow = Sequence[str | int | float | datetime | None]
"""Values in the order of the table's columns; JSON as text."""


@dataclass(frozen=True)
class CollectedColumn:
    """A column; `required`: it has no null."""

    name: str
    type: ColumnType
    required: bool = False


@dataclass(frozen=True)
class CollectedTable:
    """A table that is partitioned by day, and has each row once.

    `collected_at`, when a row was written, follows the columns.

    Attributes
    ----------
    key
        The columns that name a row; the first is its instant, whose day in UTC is its partition.
    """

    name: str
    columns: tuple[CollectedColumn, ...]
    key: tuple[str, ...]


class CollectedStore(Protocol):
    """The table in a warehouse, made when the first rows come."""

    rows_at_once: int
    """How many rows are best written together."""

    def append(self, rows: Sequence[CollectedRow]) -> int:
        """Write the rows that are not there yet, all or none; return how many those were."""

    def delete_before(self, day: date) -> int:
        """Delete the rows of the days before; return how many."""

    def delete_where(self, column: str, name: str, values: Sequence[str]) -> int:
        """Delete the rows whose JSON `column` has one of `values` as `name`; return how many."""

"""The table of what `runner monitor` found, in the schema `monitoring`: for dashboards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, NamedTuple, Protocol

SCHEMA, TABLE = "monitoring", "figures"
COLUMNS = {
    "model_name": "text",
    "model_version": "text",
    "day": "date",
    "kind": "text",
    "name": "text",
    "value": "float",
    "low": "float",
    "high": "float",
    "p_value": "float",
    "answered_rows": "bigint",
}
"""Column → type; `written_at` follows them."""
FigureKind = Literal["rows", "drift", "missing", "status", "age", "score", "slice_score"]


class FigureRow(NamedTuple):
    """One figure of a day.

    Attributes
    ----------
    kind
        What it measures; an age is in seconds.
    name
        The column, the feature view or the scorer that it is of; of a status, the column, a space
        and the status; of a slice, the scorer, a space and `slice=value`.
    low, high
        Its 95 % interval, of a score.
    """

    day: date
    kind: FigureKind
    name: str
    value: float
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    answered_rows: int | None = None


@dataclass(frozen=True)
class FiguredDays:
    """Whose figures, of which days, are replaced."""

    model: str
    version: str
    first: date
    last: date


class FiguresStore(Protocol):
    """The table in a warehouse, made when the first figures come."""

    def replace(self, days: FiguredDays, rows: Sequence[FigureRow]) -> None:
        """Write the figures of these days in place of those that are there, all or none."""

"""A table that `runner predict --to` writes into, whatever the warehouse."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import pyarrow as pa

from runner.errors import RunnerError

DAY, MODEL, VERSION, AT = "predicted_on", "model_name", "model_version", "predicted_at"
"""The columns before those of the rows; the first three name what a repeat replaces."""
_NAME = re.compile(r"(?P<schema>\w+)\.(?P<table>\w+)", re.ASCII)


@dataclass(frozen=True)
class ScoredBy:
    """Which model version scores when (UTC)."""

    model: str
    version: str
    at: datetime

    def with_rows(self, rows: pa.Table) -> pa.Table:
        """Return the rows with the columns before them, in types that both warehouses have.

        Raises
        ------
        RunnerError
            Naming a column whose values no table takes.
        """
        first = {
            DAY: pa.scalar(self.at.date(), pa.date32()),
            MODEL: pa.scalar(self.model),
            VERSION: pa.scalar(self.version),
            AT: pa.scalar(self.at, pa.timestamp("us", tz="UTC")),
        }
        columns = [pa.repeat(value, rows.num_rows) for value in first.values()]
        stored = [
            column.cast(stored_type(name, column.type))
            for name, column in zip(rows.column_names, rows.columns, strict=True)
        ]
        return pa.table([*columns, *stored], names=[*first, *rows.column_names])


def stored_type(name: str, kind: pa.DataType) -> pa.DataType:
    """Return the type in which a table has the values of a column of type `kind`.

    A time of day and an empty CSV column are stored as text.

    Raises
    ------
    RunnerError
        If no table takes such values.
    """
    if pa.types.is_dictionary(kind):
        return stored_type(name, kind.value_type)
    if kind in _AS_THEY_ARE or pa.types.is_timestamp(kind) or pa.types.is_decimal(kind):
        return kind
    for fits, stored in _STORED:
        if fits(kind):
            return stored
    raise RunnerError(
        f"column {name} is {kind}, which cannot be written into a table",
        hint=f"drop {name} from the source, or write a .parquet file with --output",
    )


_AS_THEY_ARE = frozenset({pa.int64(), pa.int32(), pa.float64(), pa.float32(), pa.bool_()})
_STORED: Sequence[tuple[Callable[[pa.DataType], bool], pa.DataType]] = (
    (pa.types.is_uint64, pa.decimal128(20)),
    (pa.types.is_integer, pa.int64()),
    (pa.types.is_float16, pa.float32()),
    (pa.types.is_date, pa.date32()),
    (pa.types.is_string, pa.string()),
    (pa.types.is_large_string, pa.string()),
    (pa.types.is_string_view, pa.string()),
    (pa.types.is_time, pa.string()),
    (pa.types.is_null, pa.string()),
)


class ScoredRows(Protocol):
    """Where rows of one model version and day are written, all or none."""

    def write(self, rows: pa.Table) -> None:
        """Write rows, which become visible once all are committed."""


def parse_table(name: str) -> tuple[str, str]:
    """Return schema and table of `schema.table`.

    Raises
    ------
    RunnerError
        If the name is not of this form.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise RunnerError(
            f"--to {name}: not SCHEMA.TABLE in letters, digits and _",
            hint="name a schema (BigQuery: a dataset) and a table, such as --to scores.purchase",
        )
    return found["schema"], found["table"]


def require_columns(table: str, there: Mapping[str, str], needed: Mapping[str, str]) -> None:
    """Raise unless the table has the needed columns: name → type, as the warehouse writes it."""
    wrong = {name: kind for name, kind in needed.items() if there.get(name) != kind}
    if wrong:
        listed = ", ".join(
            f"{name} {kind} ({f'it is {there[name]}' if name in there else 'missing'})"
            for name, kind in wrong.items()
        )
        raise RunnerError(
            f"{table} lacks columns of these predictions: {listed}",
            hint="name another table with --to, or alter this one",
        )

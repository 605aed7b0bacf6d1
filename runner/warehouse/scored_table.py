"""A table that `runner predict --to` writes into, whatever the warehouse."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
        """Return the rows with the columns before them."""
        first = {
            DAY: pa.scalar(self.at.date(), pa.date32()),
            MODEL: pa.scalar(self.model),
            VERSION: pa.scalar(self.version),
            AT: pa.scalar(self.at, pa.timestamp("us", tz="UTC")),
        }
        columns = [pa.repeat(value, rows.num_rows) for value in first.values()]
        return pa.table([*columns, *rows.columns], names=[*first, *rows.column_names])


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

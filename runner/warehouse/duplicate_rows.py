"""Duplicate rows of a feature mart: equal join keys and equal times.

The point-in-time join and materialization resolve such ties in the same way each time, by the
greatest values. Which of the rows is right, neither can know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runner.bytes_billed import Billed
from runner.project.manifest import FeatureMart
from runner.sql import quoted

_SHOWN = 3


@dataclass(frozen=True)
class DuplicateRows:
    """What a search for duplicates found.

    Attributes
    ----------
    rows
        How many rows have the keys and times of another row.
    first
        Keys, event timestamp and number of the first few, as text.
    billed
        What BigQuery billed for the search; None on PostgreSQL, and where nothing was searched.
    """

    rows: int = 0
    first: tuple[str, ...] = ()
    billed: Billed | None = None

    def problem(self, mart: FeatureMart) -> str:
        """Return what is wrong, in a sentence."""
        columns = ", ".join(identifying(mart))
        first = "; ".join(self.first)
        return (
            f"{mart.file}: {mart.name}: {self.rows:,} rows have the {columns} of another row: "
            f"{first}{'; …' if self.rows > 2 * len(self.first) else ''}"
        )

    @staticmethod
    def hint(mart: FeatureMart) -> str:
        """Return how to make the rows distinct."""
        keep = f"keep one of them in the SQL, then `dbt build --select {mart.name}`"
        if mart.created_timestamp_column:
            return keep
        return f"{keep}; or declare meta.created_timestamp_column, by which the latest counts"


def identifying(mart: FeatureMart) -> list[str]:
    """Return the columns that identify a row."""
    times = (mart.timestamp_field, mart.created_timestamp_column)
    return [*mart.join_keys, *filter(None, times)]


def duplicates_sql(mart: FeatureMart) -> str:
    """Return the SQL for the first duplicates: their identifying columns as text, then counts.

    Null keys and times belong to no entity and to no instant.
    """
    columns = [quoted(mart.adapter_type, name) for name in identifying(mart)]
    text, number = ("string", "int64") if mart.adapter_type == "bigquery" else ("text", "bigint")
    group = ", ".join(columns)
    shown = ", ".join(f"cast({name} as {text}) as key_{i}" for i, name in enumerate(columns))
    return (
        f"with repeated_rows as (\n"
        f"    select {group}, count(1) as row_count_\n    from {mart.path}\n"
        f"    where {' and '.join(f'{name} is not null' for name in columns)}\n"
        f"    group by {group}\n    having count(1) > 1\n"
        f")\n"
        f"select {shown}, row_count_, cast(sum(row_count_) over () as {number}) as all_rows_\n"
        f"from repeated_rows\norder by {group}\nlimit {_SHOWN}"
    )


def duplicates_in(mart: FeatureMart, found: Sequence[Sequence[Any]]) -> DuplicateRows:
    """Return the answer to `duplicates_sql`, row by row, as an object."""
    if not found:
        return DuplicateRows()
    names = identifying(mart)
    first = (
        ", ".join(f"{name} {value}" for name, value in zip(names, row, strict=False))
        + f" ({row[-2]} rows)"
        for row in found
    )
    return DuplicateRows(int(found[0][-1]), tuple(first))

"""Times that PostgreSQL has and Python, Arrow and BigQuery have not are refused, never converted.

`infinity`, `-infinity`, years before 1 and after 9999: read as numbers they would be far dates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from runner.errors import RunnerError

NO_TIME = "infinite or outside the years 1 to 9999"
HINT = "filter these rows out in the SQL, or give them a real time such as 1970-01-01"
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31
_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000}


@dataclass(frozen=True)
class AnswerColumn:
    """A column of an answer: its name, and what errors call it."""

    name: str
    origin: str


def refuse_impossible_times(
    batches: Iterator[pa.RecordBatch], columns: Sequence[AnswerColumn]
) -> Iterator[pa.RecordBatch]:
    """Return `batches`, whose columns are `columns`, up to one with a time that is none.

    Raises
    ------
    RunnerError
        Naming the column, and how many of all rows have no time in it.
    """
    rows = 0
    for batch in batches:
        for position, column in enumerate(columns):
            bad = count_impossible_times(batch.column(position))
            if bad:
                rows += batch.num_rows
                for later in batches:
                    rows += later.num_rows
                    bad += count_impossible_times(later.column(position))
                message = f"{column.origin} is {NO_TIME} in {bad:,} of {rows:,} rows"
                raise RunnerError(message, hint=HINT)
        rows += batch.num_rows
        yield batch


def count_impossible_times(values: pa.Array) -> int:
    """Return in how many rows `values`, or a list of them, hold a time that is none."""
    if pa.types.is_list(values.type):
        rows = pc.list_parent_indices(values)
        bad = _impossible(values.flatten())
        return 0 if bad is None else len(pc.unique(rows.filter(bad)))
    bad = _impossible(values)
    return 0 if bad is None else int(pc.sum(bad).as_py() or 0)


def _impossible(values: pa.Array) -> pa.Array | None:
    """Return which of `values` are no times; None if all are, or if they are of another type."""
    kind = values.type
    if pa.types.is_date32(kind):
        numbers, first, after = values.view(pa.int32()), _FIRST_DAY, _LAST_DAY + 1
    elif pa.types.is_timestamp(kind) and kind.unit in _PER_DAY:  # nanoseconds end in 2262
        unit = _PER_DAY[kind.unit]
        numbers = values.view(pa.int64())
        first, after = _FIRST_DAY * unit, (_LAST_DAY + 1) * unit
    else:
        return None
    limits = pc.min_max(numbers).as_py()
    if limits["min"] is None or first <= limits["min"] <= limits["max"] < after:
        return None
    return pc.or_(pc.less(numbers, first), pc.greater_equal(numbers, after))

"""A query, the columns of its answer, and how they are put together; Feast is not imported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from runner.warehouse.join.join_parts import EntityRows, JoinColumn, JoinView
from runner.warehouse.join.packing import Packs
from runner.warehouse.join.time_limits import AnswerColumn


@dataclass(frozen=True)
class Request:
    """What to run and how to put its result together.

    Attributes
    ----------
    query
        Returns `row` (if any), then the columns of the answer.
    columns
        Those columns, without `row`, in the query's order; the query may call them otherwise.
    row
        The column that holds the spine row's number; None: the order means nothing.
    upload
        A temporary table to fill first: its name and rows.
    beside
        Columns that never left this process, to stand before those of the query, row by row.
    packs
        Of each column of the query without `row`, which of `columns` it holds; None: one each.
    """

    query: str
    columns: tuple[AnswerColumn, ...]
    row: str | None = None
    upload: tuple[str, pa.Table] | None = None
    beside: pa.Table | None = None
    packs: Packs | None = None


def answer_columns(rows: EntityRows) -> tuple[AnswerColumn, ...]:
    """Return the columns of a join's answer: the spine's that it returns, then the features."""
    given = [AnswerColumn(c.name, f"the spine: {c.name}") for c in rows.returned]
    return (*given, *(column for view in rows.views for column in _features(view)))


def _features(view: JoinView) -> Iterator[AnswerColumn]:
    for feature in view.features:
        yield AnswerColumn(feature.output, f"feature view {view.name}: {feature.column.name}")


def pulled_columns(source: str, columns: Iterable[JoinColumn]) -> tuple[AnswerColumn, ...]:
    """Return the columns of a pull from the data source called `source`."""
    return tuple(AnswerColumn(column.name, f"{source}.{column.name}") for column in columns)


def named(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Return `batches` with the columns of `schema`, by position."""
    return (pa.RecordBatch.from_arrays(batch.columns, schema=schema) for batch in batches)


def joined(beside: pa.Table, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Return `batches`, each behind the rows of `beside` that belong to it."""
    start = 0
    for batch in batches:
        own = beside.slice(start, batch.num_rows).combine_chunks()
        start += batch.num_rows
        columns = [*(column.chunk(0) for column in own.columns), *batch.columns]
        yield pa.RecordBatch.from_arrays(columns, names=[*own.column_names, *batch.schema.names])

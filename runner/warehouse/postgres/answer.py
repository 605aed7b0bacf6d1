"""The answer of a retrieval, read from PostgreSQL as Arrow and put together, without Feast."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa

from runner.warehouse.join.arrow_order import in_spine_order
from runner.warehouse.join.join_request import Request, joined, named
from runner.warehouse.join.packing import after, unpacked, unpacked_types
from runner.warehouse.join.time_limits import AnswerColumn, refuse_impossible_times
from runner.warehouse.postgres.session import connect
from runner.warehouse.postgres.store_config import PostgresStoreConfig


@contextmanager
def read_answer(
    config: PostgresStoreConfig,
    request: Request,
    timeout: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Iterator[pa.RecordBatchReader]:
    """Give a reader over the answer, in order, with memory for a block of rows.

    Parameters
    ----------
    timeout
        Seconds after which the server gives up on a statement; None: never.
    on_progress
        Called with the number of rows that have arrived since the last call.

    Raises
    ------
    RunnerError
        If the server refuses the query, or a time is none that Arrow and Python can hold.
    """
    upload = request.upload
    with connect(config, timeout, writes=upload is not None) as session:
        if upload:
            name, rows = upload
            session.upload(rows, name)
        with session.read(request.query) as reader:
            yield _in_order(request, _counted(reader, on_progress), reader.schema.types)


def _counted(
    reader: pa.RecordBatchReader, on_progress: Callable[[int], None] | None
) -> Iterator[pa.RecordBatch]:
    for batch in reader:
        if on_progress:
            on_progress(batch.num_rows)
        yield batch


def _in_order(
    request: Request, batches: Iterator[pa.RecordBatch], types: list[pa.DataType]
) -> pa.RecordBatchReader:
    row = [] if request.row is None else [AnswerColumn(request.row, "")]
    columns = [*row, *request.columns]
    if request.packs is not None:
        packs = after(len(row), [request.packs])
        batches, types = unpacked(batches, packs), unpacked_types(types, packs)
    schema = pa.schema([(c.name, kind) for c, kind in zip(columns, types, strict=True)])
    batches = named(refuse_impossible_times(batches, columns), schema)
    if request.row is not None:
        batches = in_spine_order(batches, request.row)
        schema = schema.remove(0)
    if request.beside is not None:
        batches = joined(request.beside, batches)
        schema = pa.schema([*request.beside.schema, *schema])
    return pa.RecordBatchReader.from_batches(schema, batches)

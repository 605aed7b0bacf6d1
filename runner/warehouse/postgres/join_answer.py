"""The point-in-time join's request and answer, with and without Feast."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from runner.warehouse.join.answer import Request, answer_columns, joined, named
from runner.warehouse.join.arrow_order import BLOCK_ROWS, in_spine_order
from runner.warehouse.join.join_parts import EntityRows
from runner.warehouse.join.packing import Packs, after, unpacked, unpacked_types
from runner.warehouse.join.time_limits import AnswerColumn, refuse_impossible_times
from runner.warehouse.postgres.join_sql import packed_features, point_in_time_query


def join_query(rows: EntityRows) -> tuple[str, str | None, Packs | None]:
    """Return the join's SQL, its column of row numbers, and what it packs together."""
    query = point_in_time_query(rows.spine, rows.views, rows.returned, BLOCK_ROWS)
    packs = packed_features(rows.views, rows.returned)
    return query, rows.spine.row, after(len(rows.returned), packs) if packs else None


def join_request(rows: EntityRows) -> Request:
    """Return the join as it is run."""
    query, row, packs = join_query(rows)
    return Request(query, answer_columns(rows), row, rows.upload, rows.beside, packs)


def in_order(
    request: Request, reader: pa.RecordBatchReader, batches: Iterable[pa.RecordBatch]
) -> pa.RecordBatchReader:
    """Return the answer to `request`, named and in the spine's order, with what stands beside it.

    Parameters
    ----------
    batches
        Those of `reader`.
    """
    row = [] if request.row is None else [AnswerColumn(request.row, "")]
    columns = [*row, *request.columns]
    types = reader.schema.types
    if request.packs is not None:
        packs = after(len(row), [request.packs])
        batches, types = unpacked(batches, packs), unpacked_types(types, packs)
    schema = pa.schema([(c.name, kind) for c, kind in zip(columns, types, strict=True)])
    ordered = named(refuse_impossible_times(iter(batches), columns), schema)
    if request.row is not None:
        ordered = in_spine_order(ordered, request.row)
        schema = schema.remove(0)
    if request.beside is not None:
        ordered = joined(request.beside, ordered)
        schema = pa.schema([*request.beside.schema, *schema])
    return pa.RecordBatchReader.from_batches(schema, ordered)

"""Put rows that come block by block back into the spine's order, one block in memory at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Large enough that visiting a block in key order pays, small enough to be reordered in passing.
BLOCK_ROWS = 65_536
# The driver's batches live in C's own heap. With the blocks there too, what both have freed goes
# back to the system after every block: a tenth of the peak at a million rows.
_POOL = pa.system_memory_pool()


def in_spine_order(
    batches: Iterable[pa.RecordBatch], row: str, block_rows: int = BLOCK_ROWS
) -> Iterator[pa.RecordBatch]:
    """Return the rows in the order of their number, which is taken off.

    Memory is bounded by one block when the rows of block 0 come first, then those of block 1, and
    so on; any other order is put right too.

    Parameters
    ----------
    batches
        Every number from 0 to n - 1 occurs once in column `row`.

    Raises
    ------
    ValueError
        If a number is missing or occurs twice.
    """
    waiting: dict[int, list[pa.RecordBatch]] = defaultdict(list)
    arrived: dict[int, int] = defaultdict(int)
    following = 0
    for batch in batches:
        for block, part in _by_block(batch, row, block_rows):
            waiting[block].append(part)
            arrived[block] += part.num_rows
        while arrived[following] == block_rows:
            block = _ordered(
                pa.Table.from_batches(waiting.pop(following)), row, following * block_rows
            )
            _POOL.release_unused()
            yield block
            following += 1
    for block in sorted(waiting):
        if block != following:
            raise ValueError(f"rows of block {following} are missing")
        yield _ordered(pa.Table.from_batches(waiting.pop(block)), row, block * block_rows)
        following += 1


def _by_block(
    batch: pa.RecordBatch, row: str, block_rows: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    if batch.num_rows == 0:
        return
    blocks = batch.column(row).to_numpy() // block_rows
    changes = np.flatnonzero(np.diff(blocks)) + 1
    bounds = [0, *changes.tolist(), len(blocks)]
    for start, end in pairwise(bounds):
        yield int(blocks[start]), batch.slice(start, end - start)


def _ordered(table: pa.Table, row: str, first: int) -> pa.RecordBatch:
    numbers = table.column(row).to_numpy() - first
    if numbers.min() < 0 or numbers.max() >= len(numbers):
        raise ValueError(f"a row near row {first} is missing or occurs twice")
    positions = np.full(len(numbers), -1, dtype=np.int64)
    positions[numbers] = np.arange(len(numbers))
    if positions.min() < 0:
        raise ValueError(f"a row near row {first} is missing or occurs twice")
    chosen = pa.array(positions)
    table = table.drop_columns([row])
    schema = table.schema
    columns = []
    # Column by column, each let go when it is done: never two whole blocks in memory.
    for name in schema.names:
        columns.append(pc.take(table.column(0).combine_chunks(_POOL), chosen, memory_pool=_POOL))
        table = table.drop_columns([name])
    return pa.RecordBatch.from_arrays(columns, schema=schema)

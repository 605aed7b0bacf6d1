"""More features than a query may return columns: those of one type travel as one array."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

Packs = tuple[tuple[int, ...], ...]
"""Of each column of a query, which columns of the answer it holds; more than one: as an array."""


def pack(kinds: Iterable[Hashable | None]) -> Packs:
    """Return the positions of equal `kinds` together; a position of kind None stays alone."""
    together: dict[Hashable, list[int]] = defaultdict(list)
    for position, kind in enumerate(kinds):
        together[("alone", position) if kind is None else ("kind", kind)].append(position)
    return tuple(tuple(positions) for positions in together.values())


def unpacked(batches: Iterable[pa.RecordBatch], packs: Packs) -> Iterator[pa.RecordBatch]:
    """Return `batches`, whose columns are `packs`, with a column for each position."""
    for batch in batches:
        columns = {
            position: column
            for packed, positions in zip(batch.columns, packs, strict=True)
            for position, column in zip(positions, _columns(packed, len(positions)), strict=True)
        }
        arrays = [columns[position] for position in sorted(columns)]
        yield pa.RecordBatch.from_arrays(arrays, names=[str(n) for n in range(len(arrays))])


def unpacked_types(types: Sequence[pa.DataType], packs: Packs) -> list[pa.DataType]:
    """Return the types of what `unpacked` returns, of columns of these `types`."""
    found = {
        position: kind if len(positions) == 1 else kind.value_type
        for kind, positions in zip(types, packs, strict=True)
        for position in positions
    }
    return [found[position] for position in sorted(found)]


def after(count: int, packs: Iterable[Packs]) -> Packs:
    """Return the packs of several parts, one after the other, behind `count` single columns."""
    found: list[tuple[int, ...]] = [(position,) for position in range(count)]
    for part in packs:
        start = sum(map(len, found))
        found += [tuple(start + position for position in positions) for positions in part]
    return tuple(found)


def _columns(packed: pa.Array, width: int) -> Sequence[pa.Array]:
    """Return the `width` columns that a row's array holds; a null array is null in each."""
    if width == 1:
        return [packed]
    is_null = packed.is_null().to_numpy(zero_copy_only=False)
    first = np.cumsum(~is_null) * width - width
    values = packed.flatten()
    return [values.take(pa.array(first + n, mask=is_null)) for n in range(width)]

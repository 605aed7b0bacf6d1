"""Rows that arrive in any order leave in the order of their number."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.warehouse.join.arrow_order import in_spine_order


def _batches(numbers: list[int], size: int) -> list[pa.RecordBatch]:
    table = pa.table({"row": pa.array(numbers, pa.int64()), "text": [f"t{n}" for n in numbers]})
    return table.to_batches(max_chunksize=size)


@given(
    numbers=st.integers(0, 40).flatmap(lambda n: st.permutations(range(n))),
    size=st.integers(1, 9),
    block_rows=st.integers(1, 50),
)
def test_any_permutation_in_any_batches_comes_out_in_order(
    numbers: list[int], size: int, block_rows: int
) -> None:
    ordered = list(in_spine_order(_batches(numbers, size), "row", block_rows))
    texts = [value for batch in ordered for value in batch.column("text").to_pylist()]
    assert texts == [f"t{n}" for n in range(len(numbers))]


def test_a_finished_block_leaves_before_the_next_one_arrives() -> None:
    arrived = []

    def batches():  # type: ignore[no-untyped-def]
        for batch in _batches([1, 0, 3, 2], 2):
            arrived.append(batch)
            yield batch

    first = next(in_spine_order(batches(), "row", 2))
    assert first.column("text").to_pylist() == ["t0", "t1"]
    assert len(arrived) == 1


@pytest.mark.parametrize("numbers", [[0, 0, 1], [0, 2], [5, 6], [0, 1, 2, 3, 7], [-1, 0]])
def test_a_lost_or_doubled_row_is_an_error(numbers: list[int]) -> None:
    with pytest.raises(ValueError, match="missing"):
        list(in_spine_order(_batches(numbers, 10), "row", 4))


def test_a_batch_holds_no_column_for_the_row_number() -> None:
    (batch,) = in_spine_order(_batches([0], 1), "row")
    assert batch.schema.names == ["text"]

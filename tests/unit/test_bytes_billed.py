"""What a query is billed for at most, when only the sum of its tables' bytes is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.bytes_billed import expected_bill

MIB = 2**20


@pytest.mark.parametrize(
    ("bytes_processed", "tables", "billed"),
    [
        (0, 3, 0),
        (1, 1, 10 * MIB),
        (1, 4, 40 * MIB),
        (10 * MIB, 1, 10 * MIB),
        (10 * MIB + 1, 1, 11 * MIB),
        (25 * MIB, 1, 25 * MIB),
        (25 * MIB, 3, 45 * MIB),
    ],
)
def test_whole_mebibytes_are_billed_and_ten_at_least_for_each_table(
    bytes_processed, tables, billed
):
    assert expected_bill(bytes_processed, tables) == billed


@given(st.lists(st.integers(0, 40 * MIB), min_size=1, max_size=6))
def test_no_split_of_the_bytes_among_the_tables_is_billed_for_more(sizes):
    billed = sum(max(10 * MIB, -(-size // MIB) * MIB) for size in sizes)
    if any(sizes):
        assert billed <= expected_bill(sum(sizes), len(sizes))

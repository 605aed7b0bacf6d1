"""The dataset digest says whether two trainings saw the same rows."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from runner.modelling import training_data
from runner.modelling.training_data import table_digest

COLUMNS = {
    "user_id": pa.array([1, 2, None], pa.int64()),
    "country": pa.array(["de", None, "fr"], pa.string()),
    "at": pa.array(
        [datetime(2026, 1, d, tzinfo=UTC) for d in (1, 2, 3)], pa.timestamp("us", "UTC")
    ),
    "is_new": pa.array([True, None, False]),
}
TABLE = pa.table(COLUMNS)


def test_chunks_and_offsets_make_no_difference():
    chunked = pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1, 2)])
    padded = pa.concat_tables([TABLE, TABLE]).slice(3, 3)
    assert table_digest(chunked) == table_digest(padded) == table_digest(TABLE)


def test_what_lies_under_a_null_makes_no_difference():
    mask = pa.array([False, False, True])
    values = pa.array([1, 2, 77], pa.int64())
    hidden = pa.Array.from_buffers(
        pa.int64(), 3, [pa.array([True, True, False]).buffers()[1], values.buffers()[1]]
    )
    assert hidden.equals(COLUMNS["user_id"])
    assert mask.to_pylist() == hidden.is_null().to_pylist()
    assert table_digest(TABLE.set_column(0, "user_id", hidden)) == table_digest(TABLE)


@pytest.mark.parametrize(
    "other",
    [
        TABLE.take([1, 0, 2]),
        TABLE.slice(0, 2),
        TABLE.rename_columns(["user", "country", "at", "is_new"]),
        TABLE.set_column(0, "user_id", pa.array([1, None, 2], pa.int64())),
        TABLE.set_column(0, "user_id", pa.array([1, 2, None], pa.int32())),
        TABLE.set_column(1, "country", pa.array(["d", None, "efr"])),
        TABLE.set_column(3, "is_new", pa.array([True, None, True])),
    ],
    ids=["order", "rows", "name", "null", "type", "text", "flag"],
)
def test_every_change_of_the_data_shows(other):
    assert table_digest(other) != table_digest(TABLE)


def test_the_digest_is_the_one_that_earlier_versions_recorded():
    recorded = "4ddb5e6046771b70a1e9490831e3911e4d0b4714864c7345ecdef73ca93af803"
    assert table_digest(TABLE) == recorded


def test_texts_beyond_two_gigabytes_have_a_digest_whatever_their_chunks(monkeypatch):
    monkeypatch.setattr(training_data, "_STRING_BYTES", 5)
    one = pa.table({"x": pa.chunked_array([["abcd", None], ["efg", "h"]])})
    other = pa.table({"x": pa.chunked_array([["abcd"], [None, "efg"], ["h"]])})
    assert table_digest(one) == table_digest(other)
    assert table_digest(one) != table_digest(pa.table({"x": ["abcd", None, "ef", "gh"]}))

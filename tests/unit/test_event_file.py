"""Files of `runner ingest` and `runner push`: each value means what its file says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, time
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contract.event_format import EventColumn, EventTable
from contract.event_values import EventReader, EventValue
from runner.commands.online.event_file import read_events
from runner.errors import RunnerError

_DTYPES = {
    "id": "int64",
    "price": "numeric",
    "weight": "float64",
    "note": "string",
    "extra": "json",
    "at": "timestamp",
}
_TABLE = EventTable(
    name="clicks",
    schema="raw_data",
    relation="clicks",
    id_column="id",
    columns=tuple(
        EventColumn(name, dtype, digits=(6, 2) if dtype == "numeric" else None)
        for name, dtype in _DTYPES.items()
    ),
)
Write = Callable[[pa.Table], Path]


@pytest.fixture(name="write")
def _write(tmp_path: Path) -> Write:
    def write(table: pa.Table) -> Path:
        pq.write_table(table, tmp_path / "events.parquet")
        return tmp_path / "events.parquet"

    return write


def _values(path: Path) -> list[list[EventValue]]:
    reader = EventReader(_TABLE)
    return [reader.read(event.content, event.given_id) for event in read_events(_TABLE, str(path))]


def test_decimals_of_a_warehouse_are_the_numbers_that_they_are(write: Write) -> None:
    """One type for all numbers, with nine digits after the point: 0 is `0E-9` in Python."""
    kind = pa.decimal128(38, 9)
    prices = [Decimal(0), Decimal("12.5"), Decimal(1200)]
    columns = {
        "id": pa.array([Decimal(1), Decimal(2), Decimal(2**53 + 1)], kind),
        "price": pa.array(prices, kind),
        "weight": pa.array([Decimal(0), Decimal("0.000000001"), None], kind),
    }
    found = [row[:3] for row in _values(write(pa.table(columns)))]
    assert found == [[1, "0", 0.0], [2, "12.5", 1e-9], [2**53 + 1, "1200", None]]


def test_values_in_lists_and_structs_are_written_as_json_has_them(write: Write) -> None:
    extra = [{"prices": [Decimal("12.50"), None], "sold": {"at": time(12, 30)}}]
    kind = pa.struct(
        [
            ("prices", pa.list_(pa.decimal128(6, 2))),
            ("sold", pa.struct([("at", pa.time64("us"))])),
        ]
    )
    [row] = _values(write(pa.table({"id": [1], "extra": pa.array(extra, kind)})))
    assert row[4] == {"prices": ["12.50", None], "sold": {"at": "12:30:00"}}


def test_a_clock_time_of_parquet_is_a_text(write: Write) -> None:
    clock = pa.array([time(12, 30)], pa.time64("us"))
    [row] = _values(write(pa.table({"id": [1], "note": clock, "extra": clock})))
    assert row[3:5] == ["12:30:00", "12:30:00"]


def test_a_csv_file_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    """With a byte order mark, line breaks of Windows and in a cell, and quotes in a cell."""
    path = tmp_path / "events.csv"
    path.write_bytes(
        b'\xef\xbb\xbfid,note,at\r\n1,"two\r\nlines",2026-03-01 12:00:00+01:00\r\n2,"a ""b""",\r\n'
    )
    at = datetime(2026, 3, 1, 11, tzinfo=UTC).isoformat()
    assert [(row[0], row[3], row[5]) for row in _values(path)] == [
        (1, "two\r\nlines", at),
        (2, 'a "b"', None),
    ]


def test_line_breaks_in_the_cells_of_a_large_csv_file_end_no_row(tmp_path: Path) -> None:
    """Of more than a megabyte, which Arrow reads at once."""
    path = tmp_path / "events.csv"
    notes = [f"{'x' * 20}\n{n}, {'y' * 40}" for n in range(20_000)]
    path.write_text("id,note\n" + "".join(f'{n},"{note}"\n' for n, note in enumerate(notes)))
    assert [event.content for event in read_events(_TABLE, str(path))] == [
        {"id": n, "note": note} for n, note in enumerate(notes)
    ]


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("id,note,note\n1,a,b\n")
    with pytest.raises(RunnerError, match="has two columns 'note'"):
        list(read_events(_TABLE, str(path)))

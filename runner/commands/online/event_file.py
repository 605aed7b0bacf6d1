"""The file that `runner ingest` or `runner push` reads: NDJSON, CSV or Parquet, row by row."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple
from uuid import UUID

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from contract.event_format import EventTable
from contract.event_values import BadEventError, EventValue
from runner.csv_format import PARSE
from runner.errors import RunnerError

_LINES = frozenset({".ndjson", ".jsonl"})
_ROWS = 10_000
ONLY_THE_REST = "without ids, the rows of a changed file are new: leave out those that are written"
"""What to know before a file is corrected: the ids that it gives its rows are of its content."""


class FileEvent(NamedTuple):
    """An event of a file.

    Attributes
    ----------
    row
        Where it is, from 1.
    fault
        Why it cannot be read; empty: it can.
    given_id
        Its id where the file has none; None: it must have one itself.
    """

    row: int
    content: object
    fault: str
    given_id: str | None


def right_rows(
    events: Iterable[FileEvent],
    read: Callable[[object, str | None], list[EventValue]],
    rejected: list[tuple[int, str]],
) -> Iterator[list[EventValue]]:
    """Yield the values of each event that `read` takes; note the others in `rejected`."""
    for event in events:
        if event.fault:
            rejected.append((event.row, event.fault))
            continue
        try:
            yield read(event.content, event.given_id)
        except BadEventError as err:
            rejected.append((event.row, str(err)))


def next_events(events: Iterator[FileEvent], most: int, done: int) -> list[FileEvent]:
    """Return the next events; none at the end.

    Parameters
    ----------
    done
        How many events of the file are written or rejected already.

    Raises
    ------
    RunnerError
        If the file cannot be read further.
    """
    try:
        return list(islice(events, most))
    except RunnerError as err:
        if not done:
            raise
        message = f"{err.message}; its first {done:,} rows are done"
        raise RunnerError(message, hint=f"{err.hint}; {ONLY_THE_REST}") from err


def read_events(table: EventTable, source: str) -> Iterator[FileEvent]:
    """Yield the events of a file, or of stdin for `-`.

    Raises
    ------
    RunnerError
        If it cannot be read, or is of another format.
    """
    if source == "-":
        return _from_lines(sys.stdin.buffer, None)
    path = Path(source)
    dtypes = {column.name: column.dtype for column in table.columns}
    given = _digest(path)
    if path.suffix in _LINES:
        return _of_lines(path, given)
    if path.suffix == ".csv":
        return _numbered(_from_csv(path, dtypes), given)
    if path.suffix == ".parquet":
        return _numbered(_from_parquet(path, dtypes), given)
    raise RunnerError(
        f"{path}: is not a .ndjson, .csv or .parquet file",
        hint="rename it, or write - as FILE and give NDJSON on stdin",
    )


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as err:
        raise RunnerError(
            f"{path}: cannot be read ({err.strerror or err})", hint="check the path"
        ) from err


def _of_lines(path: Path, given: str) -> Iterator[FileEvent]:
    with path.open("rb") as file:
        yield from _from_lines(file, given)


def _from_lines(file: BinaryIO, given: str | None) -> Iterator[FileEvent]:
    for row, line in enumerate(file, 1):
        given_id = None if given is None else f"{given}/{row}"
        try:
            yield FileEvent(row, orjson.loads(line), "", given_id)
        except orjson.JSONDecodeError as err:
            if line.strip():
                yield FileEvent(row, None, f"the line is not JSON: {err.msg}", given_id)


def _numbered(rows: Iterator[Mapping[str, object]], given: str) -> Iterator[FileEvent]:
    for row, content in enumerate(rows, 1):
        yield FileEvent(row, content, "", f"{given}/{row}")


def _from_parquet(path: Path, dtypes: Mapping[str, str]) -> Iterator[Mapping[str, object]]:
    try:
        file = pq.ParquetFile(path)
        _refuse_twice(path, file.schema_arrow.names)
        for batch in file.iter_batches(_ROWS):
            for row in batch.to_pylist():
                yield {name: _as_json(dtypes.get(name, ""), value) for name, value in row.items()}
    except pa.ArrowException as err:
        raise RunnerError(f"{path}: {err}", hint="write it again as Parquet") from err


def _as_json(dtype: str, value: object) -> object:
    """Return a Parquet value as JSON has it.

    A decimal is a number where the column is one: warehouses write whole numbers as decimals, and
    all with the same number of digits after the point. In a list or struct it is a text.
    """
    if isinstance(value, dict):
        return {name: _as_json("", each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json("", each) for each in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if not isinstance(value, Decimal):
        return value
    if dtype in _WHOLE_NUMBERS and value == value.to_integral_value():
        return int(value)
    if dtype in _FLOATS:
        return float(value)
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if dtype == "numeric" and "." in text else text


def _refuse_twice(path: Path, names: Sequence[str]) -> None:
    """Raise if two columns have the same name: a row would keep only one of them."""
    for name in names:
        if names.count(name) > 1:
            raise RunnerError(f"{path}: has two columns {name!r}", hint="rename or drop one")


def _from_csv(path: Path, dtypes: Mapping[str, str]) -> Iterator[Mapping[str, object]]:
    try:
        names = pyarrow.csv.open_csv(path, parse_options=PARSE).schema.names
        _refuse_twice(path, names)
        options = pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            strings_can_be_null=True,
            null_values=[""],
        )
        for batch in pyarrow.csv.open_csv(path, parse_options=PARSE, convert_options=options):
            for row in batch.to_pylist():
                yield {name: _of_text(dtypes.get(name, ""), text) for name, text in row.items()}
    except pa.ArrowException as err:
        raise RunnerError(f"{path}: {err}", hint="write UTF-8, a header and equal columns") from err


def _of_text(dtype: str, text: str | None) -> object:
    """Return a CSV cell's value in its type; the text itself if it is not of that type."""
    if text is None or dtype not in _READ or (dtype in _NUMBERS and "_" in text):
        return text
    try:
        return _READ[dtype](text)
    except (KeyError, ValueError):
        return text


_WHOLE_NUMBERS = frozenset({"int64", "int32", "int16"})
_FLOATS = frozenset({"float64", "float32"})
_NUMBERS = _WHOLE_NUMBERS | _FLOATS
_FLAGS = {"true": True, "false": False}
_READ: Mapping[str, Callable[[str], object]] = {
    "int64": int,
    "int32": int,
    "int16": int,
    "float64": float,
    "float32": float,
    "bool": lambda text: _FLAGS[text.lower()],
    "json": orjson.loads,
}

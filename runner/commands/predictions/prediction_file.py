"""The file that `runner predict` scores: its rows, and what is wrong with it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from contract.bundle import Bundle
from runner.commands.predictions.prediction_times import instants, times_in_zone, with_zone
from runner.csv_format import PARSE
from runner.errors import RunnerError
from runner.feature_store.nullable_types import NULLABLE
from runner.project.manifest import EVENT_TIMESTAMP
from runner.warehouse.mart_snapshot import COLUMN_TYPES, KEY_TYPES
from runner.wording import show

_NULLS = pa.array(pyarrow.csv.ConvertOptions().null_values)
"""How spreadsheets and databases write a missing number, flag or time; of texts only "" is none."""


def read_entities(
    bundle: Bundle, path: Path, time_zone: str | None = None, more: Sequence[str] = ()
) -> pd.DataFrame:
    """Return the rows of a CSV or Parquet file, its keys and request inputs in the bundle's types.

    An entity key has a value in every row; a request input may be empty, which is a missing value.

    Every row has an `event_timestamp` in UTC: the file's, or now.

    Parameters
    ----------
    time_zone
        The zone of timestamps without one, such as `Europe/Berlin`; None: UTC, which is noted.
    more
        Columns that are written besides the predictions.

    Raises
    ------
    RunnerError
        Naming the file and, where one is wrong, the column, its first wrong row and value.
    """
    keys = {key.name: KEY_TYPES[key.dtype] for key in bundle.entity_keys}
    given = {one.name: COLUMN_TYPES[one.dtype] for one in bundle.request}
    try:
        table = _read(path, keys | given)
    except OSError as err:
        raise RunnerError(
            f"{path}: cannot be read ({err.strerror or err})", hint="check the path"
        ) from err
    except pa.ArrowException as err:
        if misshapen := _misshapen(path):
            hint = "write as many cells as the first line has, one that holds a comma in quotes"
            raise RunnerError(misshapen, hint=hint) from err
        raise RunnerError(f"{path}: {err}", hint=_wanted(bundle)) from err
    _refuse_one_column(bundle, table.column_names, path)
    require_keys(bundle, set(table.column_names), str(path))
    _refuse_unusable(table, list(keys), path)
    for name, kind in (keys | given).items():
        try:
            fitting = _cast(table[name], kind)
        except pa.ArrowException as err:
            problem = f"{path}: {name}{_misfit(table[name], kind)}"
            raise RunnerError(problem, hint=_wanted(bundle)) from err
        if pa.types.is_timestamp(kind):
            fitting = times_in_zone(name, table[name], fitting, path, time_zone)
        table = table.set_column(table.column_names.index(name), name, fitting)
    refuse_taken(bundle, table.column_names, str(path), more)
    rows: pd.DataFrame = table.to_pandas(types_mapper=NULLABLE.get)
    if EVENT_TIMESTAMP not in rows:
        rows[EVENT_TIMESTAMP] = pd.Timestamp(datetime.now(UTC))
    else:
        rows[EVENT_TIMESTAMP] = instants(rows[EVENT_TIMESTAMP], path, time_zone)
    return rows


def _wanted(bundle: Bundle) -> str:
    keys = ", ".join(f"{key.name} {key.dtype}" for key in bundle.entity_keys)
    given = ", ".join(f"{one.name} {one.dtype}" for one in bundle.request)
    wanted = f"entity keys of this model: {keys or 'none'}"
    return f"{wanted}; request inputs: {given}" if given else wanted


def _cast(values: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return the values as that type; a time without a zone as of UTC."""
    if pa.types.is_string(values.type) and not pa.types.is_string(kind):
        values = pc.utf8_trim_whitespace(values)
        if pa.types.is_timestamp(kind):
            values = with_zone(values)
    # A whole number beyond 2^53 is rounded, as it is over HTTP.
    rounds = pa.types.is_integer(values.type) and pa.types.is_floating(kind)
    return values.cast(kind, safe=not rounds)


def _misfit(values: pa.ChunkedArray, kind: pa.DataType) -> str:
    """Return which row of `values`, which cannot all be of that type, is the first that cannot."""
    if not _fits(values[:0], kind):
        return f": expected {kind}, got {values.type}"
    good, bad = 0, len(values)  # so many rows from the first are right, and are not
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if _fits(values[good:middle], kind) else (good, middle)
    return f" in row {bad}: expected {kind}, got {show(values[good].as_py())}"


def _fits(values: pa.ChunkedArray, kind: pa.DataType) -> bool:
    try:
        _cast(values, kind)
    except pa.ArrowException:
        return False
    return True


def _misshapen(path: Path) -> str:
    """Return which line of a CSV file has more or fewer cells than the first; empty: none."""
    if path.suffix == ".parquet":
        return ""
    with pa.input_stream(path) as stream:
        text = io.TextIOWrapper(stream, "utf-8", errors="replace", newline="")
        lines = csv.reader(text)
        width = 0
        with suppress(csv.Error):  # Arrow's error, which the caller has, says more
            for cells in filter(None, lines):
                width = width or len(cells)
                if len(cells) != width:
                    return f"{path}:{lines.line_num}: expected {width} columns, got {len(cells)}"
    return ""


def _refuse_one_column(bundle: Bundle, names: Sequence[str], path: Path) -> None:
    """Raise if the only column of a CSV file has a name that another separator explains."""
    found = sorted(set(";\t|") & set(names[0])) if len(names) == 1 else []
    if found and path.suffix != ".parquet" and names[0] not in {one.name for one in bundle.sent}:
        raise RunnerError(
            f"{path}: has one column, {show(names[0])}",
            hint=f"separate columns by commas, not by {show(found[0])}",
        )


def _refuse_unusable(table: pa.Table, keys: list[str], path: Path) -> None:
    """Raise for a column that is there twice, no rows, and a row without key or time."""
    names = table.column_names
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise RunnerError(f"{path}: has two columns {twice[0]!r}", hint="rename or drop one")
    if table.num_rows == 0:
        raise RunnerError(f"{path}: has no rows", hint="write one row per entity into it")
    for name in [*keys, *({EVENT_TIMESTAMP} & set(names))]:
        if table[name].null_count:
            first = table[name].is_null().index(True).as_py() + 1
            raise RunnerError(
                f"{path}: {name} is empty in {table[name].null_count} of {len(table)} rows, first "
                f"in row {first}",
                hint=f"fill in {name}, or drop those rows",
            )


def refuse_taken(bundle: Bundle, columns: list[str], source: str, more: Sequence[str]) -> None:
    """Raise if a column has the name of one that is written: two of a name cannot be read."""
    written = ["prediction", *(f"probability_{label}" for label in bundle.label.classes or ())]
    written += ["missing_views", *more]
    taken = [name for name in columns if name in written]
    if taken:
        raise RunnerError(
            f"{source}: has a column {taken[0]!r}, which the predictions would have too",
            hint=f"rename or drop {', '.join(taken)} there",
        )


def _read(path: Path, kinds: Mapping[str, pa.DataType]) -> pa.Table:
    if path.suffix == ".parquet":
        return pq.read_table(path)
    # As text: pyarrow's own conversion tells neither the column's name nor the row.
    options = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(kinds, pa.string()), strings_can_be_null=True, null_values=[""]
    )
    table = pyarrow.csv.read_csv(path, parse_options=PARSE, convert_options=options)
    texts = [name for name, kind in kinds.items() if pa.types.is_string(kind)]
    for at, name in enumerate(table.column_names):
        values = table.column(at)  # a name may be there twice, which is refused later
        if name in {*kinds, EVENT_TIMESTAMP}.difference(texts) and pa.types.is_string(values.type):
            values = pc.if_else(pc.is_in(values, _NULLS), None, values)
            table = table.set_column(at, name, values)
    return table


def require_keys(bundle: Bundle, columns: set[str], source: str) -> None:
    """Raise unless every entity key and request input is among the columns of `source`.

    Raises
    ------
    RunnerError
        Naming the first that is not.
    """
    wanted = [one.name for one in bundle.sent]
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise RunnerError(
            f"{source}: no column {missing[0]!r}",
            hint=f"this model needs {', '.join(wanted)}",
        )

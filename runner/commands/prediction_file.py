"""The file that `runner predict` scores: its rows, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from contract.bundle import Bundle
from contract.time_rules import UnknownZoneError, load_zone, zone_names
from runner import console
from runner.errors import RunnerError
from runner.feature_store.store import NULLABLE
from runner.project.manifest import EVENT_TIMESTAMP
from runner.warehouse.mart_snapshot import COLUMN_TYPES, KEY_TYPES
from runner.wording import did_you_mean, show

_ZONE = r"[T ][0-9:.]+\s*(?:Z|z|[+-][0-9]{2}:?[0-9]{0,2})$"


def read_entities(bundle: Bundle, path: Path, time_zone: str | None = None) -> pd.DataFrame:
    """Return the rows of a CSV or Parquet file, its keys and request inputs in the bundle's types.

    An entity key has a value in every row; a request input may be empty, which is a missing value.

    Every row has an `event_timestamp` in UTC: the file's, or now.

    Parameters
    ----------
    time_zone
        The zone of timestamps without one, such as `Europe/Berlin`; None: UTC, which is noted.

    Raises
    ------
    RunnerError
        Naming the file and, where one is wrong, the column, its first wrong row and value.
    """
    keys = {key.name: KEY_TYPES[key.dtype] for key in bundle.entity_keys}
    given = {one.name: COLUMN_TYPES[one.dtype] for one in bundle.request}
    try:
        table = _read(path, [*keys, *given])
    except OSError as err:
        raise RunnerError(
            f"{path}: cannot be read ({err.strerror or err})", hint="check the path"
        ) from err
    except pa.ArrowException as err:
        raise RunnerError(f"{path}: {err}", hint=_wanted(bundle)) from err
    require_keys(bundle, set(table.column_names), str(path))
    _refuse_unusable(table, list(keys), path)
    for name, kind in (keys | given).items():
        try:
            fitting = _cast(table[name], kind)
        except pa.ArrowException as err:
            problem = f"{path}: {name}{_misfit(table[name], kind)}"
            raise RunnerError(problem, hint=_wanted(bundle)) from err
        table = table.set_column(table.column_names.index(name), name, fitting)
    _refuse_taken(bundle, table.column_names, path)
    rows: pd.DataFrame = table.to_pandas(types_mapper=NULLABLE.get)
    if EVENT_TIMESTAMP not in rows:
        rows[EVENT_TIMESTAMP] = pd.Timestamp(datetime.now(UTC))
    else:
        rows[EVENT_TIMESTAMP] = _instants(rows[EVENT_TIMESTAMP], path, time_zone)
    return rows


def _wanted(bundle: Bundle) -> str:
    keys = ", ".join(f"{key.name} {key.dtype}" for key in bundle.entity_keys)
    given = ", ".join(f"{one.name} {one.dtype}" for one in bundle.request)
    wanted = f"entity keys of this model: {keys or 'none'}"
    return f"{wanted}; request inputs: {given}" if given else wanted


def _cast(values: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_string(values.type) and not pa.types.is_string(kind):
        values = pc.utf8_trim_whitespace(values)
    return values.cast(kind)


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


def _instants(times: pd.Series[Any], path: Path, time_zone: str | None) -> pd.Series[Any]:
    """Return the times in UTC."""
    given = times if pd.api.types.is_datetime64_any_dtype(times) else times.astype(str)
    instants = pd.to_datetime(given, utc=True, format="ISO8601", errors="coerce")
    bare = _without_zone(given)
    if time_zone is not None:
        instants[bare] = _localized(instants[bare], time_zone)
    elif bare.any():
        console.note(
            f"{path}: {EVENT_TIMESTAMP} has no time zone in {bare.sum():,} rows and is read as "
            "UTC; --timezone names another"
        )
    # Beyond these years Feast and pandas, in nanoseconds, would wrap around.
    wrong = ~instants.dt.year.between(1678, 2261)
    if wrong.any():
        position = int(wrong.to_numpy().argmax())
        raise RunnerError(
            f"{path}: {EVENT_TIMESTAMP} in row {position + 1} is not a time"
            f"{f' in {time_zone}' if bare.iloc[position] and time_zone else ''}: "
            f"{times.iloc[position]}",
            hint="write times as 2026-01-31T12:00:00Z or with an offset",
        )
    return instants


def _without_zone(times: pd.Series[Any]) -> pd.Series[bool]:
    """Return which of the times, texts in ISO 8601 or pandas' own, name no time zone."""
    if pd.api.types.is_datetime64_any_dtype(times):
        return pd.Series(times.dt.tz is None, index=times.index)
    return ~times.str.contains(_ZONE)


def _localized(times: pd.Series[Any], time_zone: str) -> pd.Series[Any]:
    """Return what a clock in the zone shows as UTC; NaT for an hour that it skips or repeats."""
    try:
        zone = load_zone(time_zone)
    except UnknownZoneError as err:
        raise RunnerError(
            f"--timezone: {err}{did_you_mean(time_zone, zone_names())}",
            hint="name a zone of the IANA database, such as Europe/Berlin",
        ) from err
    shown = times.dt.tz_localize(None).dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    instants: pd.Series[Any] = shown.dt.tz_convert(UTC)
    return instants


def _refuse_taken(bundle: Bundle, columns: list[str], path: Path) -> None:
    """Raise if a column has the name of one that is written: two of a name cannot be read."""
    written = ["prediction", *(f"probability_{label}" for label in bundle.label.classes or ())]
    written.append("missing_views")
    taken = [name for name in columns if name in written]
    if taken:
        raise RunnerError(
            f"{path}: has a column {taken[0]!r}, which the predictions would have too",
            hint=f"rename or drop {', '.join(taken)} in the file",
        )


def _read(path: Path, typed: Iterable[str]) -> pa.Table:
    if path.suffix == ".parquet":
        return pq.read_table(path)
    # As text: pyarrow's own conversion tells neither the column's name nor the row.
    options = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(typed, pa.string()), strings_can_be_null=True
    )
    return pyarrow.csv.read_csv(path, convert_options=options)


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

"""An entity DataFrame, taken apart: what the join needs of it and what stays in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pandas.api.types import infer_dtype

from runner.errors import RunnerError
from runner.warehouse.join.join_parts import JoinColumn, JoinView
from runner.warehouse.join.key_types import KindOf, unfit_key
from runner.warehouse.join.view_plan import EVENT_TIMESTAMP, check_names

_ROW = "spine_row"
_UTC = pa.timestamp("us", tz="UTC")
_TIME_KINDS = {"datetime64", "datetime", "date", "string", "empty"}
# By the kind of the feature table's key: what a key goes up as, and how to make it so. A key of
# another kind (uuid, enum …) goes up as text.
_TARGETS = {
    "integer": pa.int64(),
    "text": pa.string(),
    "date": pa.date32(),
    "timestamp": _UTC,
    "timestamptz": _UTC,
    "bool": pa.bool_(),
    "DATE": pa.date32(),
    "DATETIME": _UTC,
    "TIMESTAMP": _UTC,
    "BOOL": pa.bool_(),
}
_NO_KEYS = {"float4", "float8", "numeric", "FLOAT64", "NUMERIC", "BIGNUMERIC"}


@dataclass(frozen=True)
class FrameParts:
    """An entity DataFrame, taken apart.

    Attributes
    ----------
    own
        All of it, as Arrow, times in UTC.
    names
        Its columns.
    keys
        The join keys, with the types of the feature tables.
    timestamp, row
        Names of its time and of the row number.
    uploaded
        What the join needs of it: row number, join keys, time in microseconds.
    """

    own: pa.Table
    names: tuple[str, ...]
    keys: tuple[JoinColumn, ...]
    timestamp: str
    row: str
    uploaded: pa.Table


def split_frame(frame: pd.DataFrame, views: Sequence[JoinView], kind_of: KindOf) -> FrameParts:
    """Return `frame` as what the join needs and what stays here.

    Raises
    ------
    RunnerError
        If a column is missing or cannot be what the feature table's key is.
    """
    names = tuple(map(str, frame.columns))
    timestamp = _frame_timestamp(frame)
    check_names(names, views)
    own = _arrow(frame.assign(**{timestamp: _in_utc(frame[timestamp])}))
    keys: dict[str, JoinColumn] = {}
    row = free_name(names, views)
    uploaded = {row: pa.array(range(len(frame)), pa.int64())}
    for view in views:
        for key, found in view.keys:
            if key not in keys:
                keys[key] = column = replace(found, name=key)
                uploaded[key] = _key(own.column(key), column, kind_of(column), view.name)
    uploaded[timestamp] = _microseconds(own.column(timestamp))
    return FrameParts(own, names, tuple(keys.values()), timestamp, row, pa.table(uploaded))


def _frame_timestamp(frame: pd.DataFrame) -> str:
    if EVENT_TIMESTAMP in frame.columns:
        return EVENT_TIMESTAMP
    times = [str(name) for name in frame.select_dtypes(["datetime", "datetimetz"]).columns]
    if len(times) == 1:
        return times[0]
    raise RunnerError(
        f"the entity DataFrame has no column {EVENT_TIMESTAMP}; it has "
        f"{', '.join(map(str, frame.columns))}",
        hint=f"add the time of each row as a datetime column named {EVENT_TIMESTAMP}",
    )


def _in_utc(times: pd.Series[Any]) -> pd.Series[Any]:
    """Return `times` in UTC: times as they are, texts as ISO 8601 writes them.

    A number is refused: seconds, milliseconds and nanoseconds since 1970 look alike.
    """
    name = times.name
    if infer_dtype(times, skipna=True) not in _TIME_KINDS:
        raise RunnerError(
            f"column {name} of the entity DataFrame holds {times.dtype}, which names no time",
            hint=f"convert it, such as pd.to_datetime(frame[{str(name)!r}], unit='s', utc=True) "
            "for seconds since 1970",
        )
    try:
        return pd.to_datetime(times, utc=True, format="ISO8601")
    except (ValueError, TypeError, OverflowError) as err:
        raise RunnerError(
            f"column {name} of the entity DataFrame holds what is no time of the years 1678 to "
            f"2261: {err}",
            hint="convert the column with pd.to_datetime(…, utc=True) first",
        ) from err


def _arrow(frame: pd.DataFrame) -> pa.Table:
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as err:
        raise RunnerError(
            f"the entity DataFrame has a column of mixed types: {err}",
            hint="convert the column to one type, for instance with astype",
        ) from err
    return table.replace_schema_metadata(None)


def _microseconds(times: pa.ChunkedArray) -> pa.ChunkedArray:
    # Down, never towards zero: before 1970 that would be a microsecond into the future.
    return pc.cast(pc.floor_temporal(times, unit="microsecond"), _UTC, safe=False)


def _key(values: pa.ChunkedArray, column: JoinColumn, kind: str, view: str) -> pa.ChunkedArray:
    """Return `values` in the type of the feature table's key, without loss."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_null(values.type):
        return values.cast(pa.string())
    if pa.types.is_nested(values.type):
        raise unfit_key(column.name, str(values.type), view, column, kind)
    if kind in _NO_KEYS:
        raise RunnerError(
            f"join key {column.name} is {column.type} in its feature table; a join key is an "
            "integer, text, boolean or time",
            hint=f"write `cast({column.name} as bigint)` or `cast({column.name} as text)` in the "
            "SQL of its dbt model",
        )
    is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    if is_text != (kind not in _TARGETS or kind == "text"):
        raise unfit_key(column.name, str(values.type), view, column, kind)
    try:
        return values.cast(_TARGETS.get(kind, pa.string()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as err:
        raise unfit_key(column.name, str(values.type), view, column, kind) from err


def free_name(names: Sequence[str], views: Sequence[JoinView]) -> str:
    """Return a name for the row number that no column of the answer has."""
    taken = {*names, *(feature.output for view in views for feature in view.features)}
    name = _ROW
    while name in taken:
        name += "_"
    return name

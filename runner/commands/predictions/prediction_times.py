"""Times in a file that `runner predict` scores, with a time zone or without one."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from contract.time_rules import UnknownZoneError, load_zone, zone_names
from runner import console
from runner.errors import RunnerError
from runner.project.manifest import EVENT_TIMESTAMP
from runner.wording import did_you_mean

_ZONE = r"[T ][0-9:.]+\s*(?:Z|z|[+-][0-9]{2}:?[0-9]{0,2})$"
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_HINT = "write times as 2026-01-31T12:00:00Z or with an offset"


def with_zone(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return texts of times as Arrow reads them; one that names no zone as of UTC."""
    times = pc.replace_substring_regex(times, r"[\sZz]+$", "Z")
    times = pc.if_else(
        pc.match_substring_regex(times, _DATE),
        pc.binary_join_element_wise(times, "00:00", "T"),
        times,
    )
    return pc.if_else(
        pc.match_substring_regex(times, _ZONE),
        times,
        pc.binary_join_element_wise(times, "Z", ""),
    )


def times_in_zone(
    name: str, given: pa.ChunkedArray, read: pa.ChunkedArray, path: Path, time_zone: str | None
) -> pa.ChunkedArray:
    """Return a column of times, those that name no zone as of the zone.

    Parameters
    ----------
    given, read
        The column as the file has it, and in UTC as if it named that zone.

    Raises
    ------
    RunnerError
        If the clock of the zone skips or repeats an hour of it.
    """
    instants = pd.Series(read.to_pandas())
    bare = _bare(given).to_numpy() & instants.notna().to_numpy()
    if not bare.any():
        return read
    if time_zone is None:
        _note(name, int(bare.sum()), path)
        return read
    instants[bare] = _localized(instants[bare], time_zone)
    wrong = instants.isna().to_numpy() & bare
    if wrong.any():
        first = int(wrong.argmax())
        raise RunnerError(
            f"{path}: {name} in row {first + 1} is not a time in {time_zone}: {given[first]}",
            hint=_HINT,
        )
    return pa.chunked_array([pa.Array.from_pandas(instants, type=read.type)])


def _bare(times: pa.ChunkedArray) -> pd.Series[bool]:
    if not pa.types.is_string(times.type):
        return pd.Series(getattr(times.type, "tz", None) is None, index=range(len(times)))
    return _without_zone(times.to_pandas().fillna("").str.strip())


def _note(name: str, rows: int, path: Path) -> None:
    console.note(
        f"{path}: {name} has no time zone in {rows:,} rows and is read as UTC; --timezone names "
        "another"
    )


def instants(times: pd.Series[Any], path: Path, time_zone: str | None) -> pd.Series[Any]:
    """Return the times in UTC."""
    given = times if pd.api.types.is_datetime64_any_dtype(times) else times.astype(str)
    instants = pd.to_datetime(given, utc=True, format="ISO8601", errors="coerce")
    bare = _without_zone(given)
    if time_zone is not None:
        instants[bare] = _localized(instants[bare], time_zone)
    # Beyond these years Feast and pandas, in nanoseconds, would wrap around.
    wrong = ~instants.dt.year.between(1678, 2261)
    if wrong.any():
        position = int(wrong.to_numpy().argmax())
        raise RunnerError(
            f"{path}: {EVENT_TIMESTAMP} in row {position + 1} is not a time"
            f"{f' in {time_zone}' if bare.iloc[position] and time_zone else ''}: "
            f"{times.iloc[position]}",
            hint=_HINT,
        )
    if time_zone is None and bare.any():
        _note(EVENT_TIMESTAMP, int(bare.sum()), path)
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

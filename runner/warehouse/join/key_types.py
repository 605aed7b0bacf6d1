"""Join keys of the spine held against those of the feature tables, whatever the spine comes as."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from runner.errors import RunnerError
from runner.warehouse.join.join_parts import JoinColumn, JoinView

# Names the kind of a column's type: `integer`, `text`, or the type itself.
KindOf = Callable[[JoinColumn], str]
_CASTS = {
    "integer": "frame[{0!r}].astype('Int64')",
    "bool": "frame[{0!r}].astype('boolean')",
    "date": "pd.to_datetime(frame[{0!r}]).dt.date",
    "timestamp": "pd.to_datetime(frame[{0!r}], utc=True)",
    "timestamptz": "pd.to_datetime(frame[{0!r}], utc=True)",
    "BOOL": "frame[{0!r}].astype('boolean')",
    "DATE": "pd.to_datetime(frame[{0!r}]).dt.date",
    "DATETIME": "pd.to_datetime(frame[{0!r}], utc=True)",
    "TIMESTAMP": "pd.to_datetime(frame[{0!r}], utc=True)",
}


def unfit_key(key: str, given: str, view: str, column: JoinColumn, kind: str) -> RunnerError:
    """Return the error for a key that cannot be compared with the feature table's.

    Parameters
    ----------
    given
        Its type in the spine.
    kind
        Of the feature table's type, by a `KindOf`.
    """
    in_frame = _CASTS.get(kind, "frame[{0!r}].astype(str)").format(key)
    return RunnerError(
        f"join key {key} is {given} in the spine but {column.type} in feature view {view}",
        hint=f"write `cast({key} as {column.type})` in the spine's SQL; "
        f"in a DataFrame: frame[{key!r}] = {in_frame}",
    )


def check_key_types(
    types: Mapping[str, JoinColumn],
    views: Sequence[JoinView],
    comparison: Callable[[JoinColumn, JoinColumn], str],
    kind_of: KindOf,
) -> None:
    """Check that each join key can be compared with the spine's.

    Parameters
    ----------
    comparison
        Names how the warehouse compares two columns; empty where it cannot.

    Raises
    ------
    RunnerError
        Naming the first key that cannot.
    """
    for view in views:
        for key, column in view.keys:
            if not comparison(types[key], column):
                raise unfit_key(key, types[key].type, view.name, column, kind_of(column))

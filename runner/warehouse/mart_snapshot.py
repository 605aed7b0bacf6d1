"""A feature mart in the warehouse at one instant: what both warehouses know of it.

`postgres.mart` reads PostgreSQL, `bigquery.mart` BigQuery; materialization and the audit ask only
what is here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import pyarrow as pa

from runner.errors import RunnerError
from runner.project.manifest import FeatureMart

EVENT_TIME = "_event_time"
CHANGED = "_changed"
LATE = timedelta(hours=1)
"""How long after it is known a row may be written and still be in `arrived_rows`."""
KEY_TYPES = {
    "int64": pa.int64(),
    "int32": pa.int32(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us", "UTC"),
}
"""Arrow's type of each dtype that a join key may have."""
COLUMN_TYPES = KEY_TYPES | {
    "float64": pa.float64(),
    "float32": pa.float32(),
    "bool": pa.bool_(),
}
"""Arrow's type of each dtype that a column of a spine may have."""
FEAST_TYPES = {
    "int64": "INT64",
    "int32": "INT32",
    "float64": "DOUBLE",
    "float32": "FLOAT",
    "string": "STRING",
    "bool": "BOOL",
    "timestamp": "UNIX_TIMESTAMP",
}
"""Feast's name of each dtype that a feature may have."""


def as_number(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a spine's column with float64 for decimals, which is the dtype of `numeric`."""
    return column.cast(pa.float64()) if pa.types.is_decimal(column.type) else column


@dataclass(frozen=True)
class PushesSeen:
    """Which rows of the raw table of pushes a feature mart has: dbt has built it with them.

    Attributes
    ----------
    place
        When the last row that it has was collected: it has those collected before, too. None: it
        has none.
    received_at
        When that row was received.
    is_last
        Whether no row was collected later.
    """

    place: datetime | None = None
    received_at: datetime | None = None
    is_last: bool = True


class MartSnapshot(Protocol):
    """A feature mart whose queries all see the same rows.

    Attributes
    ----------
    now
        The instant of the snapshot, by the warehouse's clock.
    identity
        What a comparison with the rows of an earlier run rests on: a digest of each part, such as
        `tables` and `columns`. Empty where nothing can be compared, as for a view.
    horizon
        A count that grows with every change of the table: whatever was counted before it is in
        the snapshot. Each warehouse counts in its own way.
    keys_at_once
        How many keys `existing` is best asked for at a time.
    hindrance
        Why `arrived_rows` cannot be asked for, and what to do about it; None: it can.
    all_changed
        Why CHANGED is always true in `newest_rows`, and what to do about it; None: it is not, or
        nothing can be done.
    """

    mart: FeatureMart
    now: datetime
    identity: Mapping[str, str]
    horizon: int
    keys_at_once: int
    hindrance: tuple[str, str] | None
    all_changed: tuple[str, str] | None

    def knows_changes_since(self, horizon: int) -> bool:
        """Return whether a snapshot with this earlier `horizon` can be compared with this one."""

    def newest_rows(
        self, as_of: datetime, changed_since: tuple[int, datetime] | None
    ) -> Iterator[pa.RecordBatch]:
        """Return the newest valid row per entity, bit by bit.

        Newest is the latest event timestamp, then the latest created timestamp, then the greatest
        feature values in declared order, as in the point-in-time join. A row counts only when
        both its timestamps are at or before `as_of`, and its event timestamp is within the ttl.

        Columns: join keys, EVENT_TIME, CHANGED, features.

        Parameters
        ----------
        changed_since
            An earlier `horizon` and instant: CHANGED is true where the row was written, or became
            visible, since; it may be true for others too. None: it is always true.
        """

    def arrived_rows(
        self, as_of: datetime, since: tuple[int, datetime]
    ) -> Iterator[pa.RecordBatch]:
        """Return the same for entities with a row that arrived since an earlier run.

        A row arrived if it was written since that run, or is known only since then. Rows that
        `next_visible` announces, deletions and expiry are not seen; nor, in PostgreSQL, is a row
        that was written more than LATE after the time since when it is known.

        Parameters
        ----------
        since
            The `horizon` and the instant of that run.
        """

    def next_visible(self, as_of: datetime, since: tuple[int, datetime] | None) -> datetime | None:
        """Return when the next row begins to count that `arrived_rows` will not show; None: no row.

        Parameters
        ----------
        since
            Look only at rows that arrived since this `horizon` and instant; None: at all rows.
        """

    def existing(self, as_of: datetime, keys: Sequence[Sequence[object]]) -> set[int]:
        """Return which of `keys` have a valid row, by their position counted from 1.

        Each holds its join key values in the order of their names, timestamps as whole seconds.
        """

    def pushes_seen(self, schema: str, table: str, since: datetime | None) -> PushesSeen:
        """Return which rows of a raw table of pushes the mart has.

        A mart has a row if it has its join keys and event timestamp, known since it was received.

        Parameters
        ----------
        since
            Look only at rows collected later; None: at all rows.
        """

    def sample(self, size: int) -> list[dict[str, Any]]:
        """Return the join keys of up to `size` entities, others at each call."""

    def cancel(self) -> None:
        """Stop what the warehouse is doing for us."""


class MissingTableError(RunnerError):
    """A mart has no table: dbt has not built it, or it was dropped."""


def missing_table(mart: FeatureMart) -> MissingTableError:
    """Return the error for a mart without a table."""
    return MissingTableError(
        f"feature mart {mart.name}: no table {mart.schema}.{mart.alias} in {mart.database}",
        hint=f"run `dbt build --select +{mart.name}`",
    )


def missing_column(mart: FeatureMart, name: str, found: Sequence[str]) -> RunnerError:
    """Return the error for a column that dbt's YAML has and the table, with `found`, has not."""
    hint = f"add it to the SQL or take it out of the YAML, then `dbt build --select +{mart.name}`"
    if name.lower() in found:
        hint = (
            f"PostgreSQL folds names without quotes: write {name.lower()} in the YAML, or quote "
            "the name in the SQL and set `quote: true`"
        )
    return RunnerError(
        f"{mart.file}: {mart.name}: its table has no column {name}; it has {', '.join(found)}",
        hint=hint,
    )


def oldest_valid(mart: FeatureMart, as_of: datetime) -> datetime | None:
    """Return the earliest event timestamp that is valid at `as_of`; None without a ttl."""
    if mart.ttl is None:
        return None
    try:
        return as_of - mart.ttl
    except OverflowError:  # a ttl of millennia
        return datetime.min.replace(tzinfo=as_of.tzinfo)

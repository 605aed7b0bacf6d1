"""Rows written offline with Feast's client: they go to the raw table of pushed rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import pyarrow as pa

from contract.event_format import EventTable
from contract.event_values import BadEventError, EventValue
from contract.push_rows import PushedRows
from runner.errors import RunnerError
from runner.warehouse.collected_table import CollectedStore, CollectedTable
from runner.warehouse.raw_rows import RawRows, raw_table

if TYPE_CHECKING:
    from feast import FeatureView
    from feast.repo_config import RepoConfig

RAW_TABLE_TAG = "raw_table"
"""The tag of a Feast push source that holds its raw table, as `EventTable.dump` writes it."""
Opened = Callable[[str, CollectedTable], AbstractContextManager[CollectedStore]]
"""Opens a table of a schema in the warehouse."""


_NOT_STORED = "no row was written to the warehouse (`ONLINE_AND_OFFLINE` wrote to Redis first)"


class PushedFrameStore:
    """The part of Feast's offline store that writes."""

    @classmethod
    def raw_table_opener(cls, config: RepoConfig) -> Opened:
        """Return what opens a raw table in the warehouse of `config`."""
        raise NotImplementedError

    @classmethod
    def offline_write_batch(
        cls,
        config: RepoConfig,
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], object] | None,  # noqa: ARG003 - Feast gives none
    ) -> None:
        """Write rows to the raw table of pushed rows; see `push_frame`."""
        push_frame(feature_view, table, cls.raw_table_opener(config))


def push_frame(feature_view: FeatureView, frame: pa.Table, opened: Opened) -> None:
    """Write the rows of `frame`, all or none, to the raw table that the view's mart reads.

    As with `runner push`, they are known from now on: a created timestamp in `frame` is not used.

    Raises
    ------
    RunnerError
        If the mart reads no such table, or a row cannot be pushed.
    """
    table = _raw_table_of(feature_view)
    pushed, now = PushedRows(table, project=""), datetime.now(UTC)
    rows = []
    for position, row in enumerate(_rows(frame, table)):
        try:
            rows.append(pushed.read_at(now, row, given_id=uuid4().hex))
        except BadEventError as err:
            raise cannot_push(feature_view.name, position, str(err), _NOT_STORED) from None
    if rows:
        with opened(table.schema, raw_table(table)) as store:
            store.append(RawRows(table).received(now, pushed.columns, rows))


def cannot_push(
    view: str, position: int, fault: str, written: str = "nothing was written"
) -> RunnerError:
    """Return the error for a row written with Feast's client; positions count from 0."""
    return RunnerError(
        f"{view}: the row at position {position} cannot be pushed: {fault}",
        hint=f"{written}; correct the row or leave it out",
    )


def _raw_table_of(feature_view: FeatureView) -> EventTable:
    name, source = feature_view.name, feature_view.stream_source
    if source is None:
        raise RunnerError(
            f"{name}: no dbt source has the rows that are pushed to it",
            hint=f"declare one with `pushes: {name}` and union its rows in the mart: "
            "`runner help events`",
        )
    if RAW_TABLE_TAG not in source.tags:
        raise RunnerError(
            f"{name}: the mart does not read the dbt source of its pushed rows, so no training "
            "would see them",
            hint="union the rows of {{ source(…) }} in the mart and run `dbt build`: "
            "`runner help events`",
        )
    table = EventTable.parse(source.tags[RAW_TABLE_TAG].encode())
    if table is None:
        raise RunnerError(
            f"{name}: another version of runner wrote this view to Feast's registry",
            hint="run `feast -c feature_repo apply`",
        )
    return table


def _rows(frame: pa.Table, table: EventTable) -> Iterator[dict[str, EventValue]]:
    """Yield the rows as JSON has them; whole numbers beside nulls are floats in pandas."""
    for column in table.columns:
        if column.name in frame.column_names:
            at = frame.column_names.index(column.name)
            frame = frame.set_column(at, column.name, _as_declared(frame[at], column.dtype))
    names = [column.name for column in table.columns if column.name in frame.column_names]
    for row in frame.select(names).to_pylist():
        yield {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in row.items()
        }


def _as_declared(values: pa.ChunkedArray, dtype: str) -> pa.ChunkedArray:
    if dtype == "timestamp" and pa.types.is_timestamp(values.type):
        return values.cast(pa.timestamp("us", "UTC"), safe=False)  # without a zone it is UTC
    if dtype in {"int32", "int64"} and pa.types.is_floating(values.type):
        try:
            return values.cast(pa.int64())
        except pa.ArrowInvalid:  # the first row with a fraction is named
            return values
    return values

"""A feature mart in BigQuery at one instant, read as Arrow batches through the Storage Read API."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from feast.repo_config import load_repo_config
from google.cloud import bigquery

from contract.event_format import COLLECTED_AT, RECEIVED_AT
from runner.project.manifest import FeatureMart
from runner.settings import Settings
from runner.sql import quote_bigquery as quote
from runner.warehouse.bigquery.newest_rows import (
    BigQueryTable,
    any_sql,
    changed_sql,
    existing_sql,
    in_partitions_sql,
    newest_rows_sql,
    next_visible_sql,
    no_keys_sql,
    sample_sql,
    written_partitions_sql,
)
from runner.warehouse.bigquery.pushes import pushes_seen_sql
from runner.warehouse.bigquery.session import BigQuerySession
from runner.warehouse.bigquery.types import column_of, exported
from runner.warehouse.mart_snapshot import FEAST_TYPES, PushesSeen, missing_table

_EPOCH = datetime.fromtimestamp(0, UTC)
_LEAST_TIME_TRAVEL = 48 * 3_600_000  # milliseconds; a dataset may be set to more, never to less
_KEY_TYPES = {"string": pa.string()}


class BigQueryMart:
    """A feature mart whose queries all look at the same instant, by BigQuery's time travel.

    Its horizon is that instant in milliseconds since 1970. BigQuery knows when it wrote a
    partition last, so a late row or a correction is found whatever its timestamps say; of a table
    that is not partitioned by day, every row counts as changed when any was.
    """

    keys_at_once = 100_000  # each time costs a query over the table's keys

    def __init__(self, session: BigQuerySession, mart: FeatureMart) -> None:
        self._session = session
        self._what = f"materialize {mart.name}"
        self.mart = mart
        path = (mart.database, mart.schema, mart.alias)
        self.now: datetime = self._read("select current_timestamp() as now")["now"][0].as_py()
        table = session.table(path)
        if table is None:
            raise missing_table(mart)
        _check_declared_types(table, mart)
        is_table = table.table_type == "TABLE"
        self.identity: Mapping[str, str] = _footing(table, path) if is_table else {}
        self.horizon = _milliseconds(self.now)
        self._source = BigQueryTable(mart, path, self.now if is_table else None)
        self._modified = _milliseconds(table.modified)
        self._has_days = _is_partitioned_by_day(table, mart)
        self.all_changed: tuple[str, str] | None = None
        self.hindrance = None if self._has_days else _no_days(mart)

    def knows_changes_since(self, horizon: int) -> bool:
        """Return whether no column can have been dropped and added again since `horizon`.

        That changes no partition's time and, for the last column, not the schema. But BigQuery
        keeps the name of a dropped column reserved for as long as its time travel reaches.
        """
        return 0 <= self.horizon - horizon < _LEAST_TIME_TRAVEL

    def newest_rows(
        self, as_of: datetime, changed_since: tuple[int, datetime] | None
    ) -> Iterator[pa.RecordBatch]:
        """Return the newest valid row per entity; see `MartSnapshot`."""
        changed = "true"
        if changed_since is not None:
            horizon, instant = changed_since
            changed = changed_sql(self.mart, self._written_since(horizon), instant)
        return self._stream(newest_rows_sql(self._source, as_of, changed))

    def arrived_rows(
        self, as_of: datetime, since: tuple[int, datetime]
    ) -> Iterator[pa.RecordBatch]:
        """Return the newest valid row per entity in partitions written since; see `MartSnapshot`.

        It may lie in another partition, so all are read; but none, if none was written.
        """
        if self._modified < since[0]:
            return iter(())
        written = self._written_since(since[0])
        return self._stream(newest_rows_sql(self._source, as_of, "true", only=written))

    def next_visible(self, as_of: datetime, since: tuple[int, datetime] | None) -> datetime | None:
        """Return when the next row becomes visible; see `MartSnapshot`."""
        if since is not None and self._modified < since[0]:
            return None
        found = self._read(next_visible_sql(self._source, as_of))
        instant: datetime | None = found["instant"][0].as_py()
        return instant

    def existing(self, as_of: datetime, keys: Sequence[Sequence[object]]) -> set[int]:
        """Return which of `keys` have a valid row; see `MartSnapshot`."""
        names = sorted(self.mart.join_keys)
        if not names:
            found = self._read(any_sql(self._source, as_of))
        else:
            name = self._session.upload_name()
            with self._session.uploaded(self._numbered(names, keys), name):
                found = self._read(existing_sql(self._source, as_of, quote(*name)))
        return set(found["position"].to_pylist())

    def pushes_seen(self, schema: str, table: str, since: datetime | None) -> PushesSeen:
        """Return which rows of a raw table of pushes the mart has; see `MartSnapshot`."""
        raw = (self.mart.database, schema, table)
        found = self._session.table(raw)
        if found is None:
            return PushesSeen()
        names = {field.name for field in found.schema}
        order = COLLECTED_AT if COLLECTED_AT in names else RECEIVED_AT
        [seen] = self._read(pushes_seen_sql(self._source, raw, order, since)).to_pylist()
        return PushesSeen(**seen)

    def sample(self, size: int) -> list[dict[str, Any]]:
        """Return the join keys of up to `size` entities, others at each call."""
        rows: list[dict[str, Any]] = self._read(sample_sql(self._source, size)).to_pylist()
        return rows

    def cancel(self) -> None:
        """Stop the query that `newest_rows` runs."""
        self._session.cancel()

    def _stream(self, query: str) -> Iterator[pa.RecordBatch]:
        with self._session.stream(query, self._what, purpose="materialize") as reader:
            yield from reader

    def _read(self, query: str) -> pa.Table:
        return self._session.read(query, self._what, purpose="materialize")

    def _written_since(self, horizon: int) -> str:
        """Return the condition that a row may have been written since `horizon`."""
        if self._modified < horizon:
            return "false"
        if not self._has_days:
            return "true"
        since = _EPOCH + timedelta(milliseconds=horizon)
        written = self._read(written_partitions_sql(self._source.path, since))
        return in_partitions_sql(self.mart, written["partition_id"].to_pylist())

    def _numbered(self, names: list[str], keys: Sequence[Sequence[object]]) -> pa.Table:
        columns: dict[str, Any] = {"position": pa.array(range(1, len(keys) + 1), pa.int64())}
        for n, name in enumerate(names):
            kind = _KEY_TYPES.get(self.mart.columns[name].dtype, pa.int64())
            columns[f"key_{n}"] = pa.array([key[n] for key in keys], kind)
        return pa.table(columns)


@contextmanager
def open_bigquery_mart(settings: Settings, mart: FeatureMart) -> Iterator[BigQueryMart]:
    """Look at `mart` as it is now, with the offline store's configuration.

    Raises
    ------
    RunnerError
        If its table does not exist, or BigQuery refuses.
    """
    settings.export()
    config = load_repo_config(settings.feature_repo, settings.feature_store_yaml)
    yield BigQueryMart(BigQuerySession(config.offline_store), mart)


def planned_query(mart: FeatureMart, as_of: datetime) -> str:
    """Return the SQL that `BigQueryMart.newest_rows` would run; nothing is asked."""
    path = (mart.database, mart.schema, mart.alias)
    return newest_rows_sql(BigQueryTable(mart, path, None), as_of, "true")


def planned_look_up(mart: FeatureMart, as_of: datetime) -> str:
    """Return the SQL that `BigQueryMart.existing` would run, for no keys; nothing is asked."""
    source = BigQueryTable(mart, (mart.database, mart.schema, mart.alias), None)
    if not mart.join_keys:
        return any_sql(source, as_of)
    return existing_sql(source, as_of, no_keys_sql(mart))


def _footing(table: bigquery.Table, path: tuple[str, str, str]) -> dict[str, str]:
    """Return what a comparison of partitions rests on: the table's creation, and its columns.

    A column that is renamed, added or dropped changes no partition's time, but names, or their
    order; `knows_changes_since` sees to the one that is dropped and added again as the last.
    """
    columns = [(c.name, c.field_type, c.mode, c.default_value_expression) for c in table.schema]
    schema = hashlib.sha256(json.dumps(columns).encode()).hexdigest()[:16]
    return {"tables": f"{'.'.join(path)}/{_milliseconds(table.created)}", "columns": schema}


def _check_declared_types(table: bigquery.Table, mart: FeatureMart) -> None:
    """Raise unless each feature can be what dbt's YAML says, as the point-in-time join does."""
    columns = {field.name: column_of(field) for field in table.schema}
    for feature in mart.features:
        if feature.name in columns:
            exported("", columns[feature.name], FEAST_TYPES[feature.dtype])


def _milliseconds(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(milliseconds=1)


def _no_days(mart: FeatureMart) -> tuple[str, str]:
    field = mart.timestamp_field
    days = f"{{field: {field}, data_type: timestamp, granularity: day}}"
    return (
        f"{mart.path} is not partitioned by the day of {field}",
        f"add to the config of its dbt model: partition_by: {days}",
    )


def _is_partitioned_by_day(table: bigquery.Table, mart: FeatureMart) -> bool:
    partitions = table.time_partitioning
    return partitions is not None and (partitions.type_, partitions.field) == (
        bigquery.TimePartitioningType.DAY,
        mart.timestamp_field,
    )

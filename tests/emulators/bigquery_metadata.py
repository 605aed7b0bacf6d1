"""What the BigQuery emulator does not keep of its tables: see `correct_table_metadata`.

Part of the launcher, and like it in an environment of its own.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from bqemulator.api.routes import tables
from bqemulator.catalog.models import Clustering, TimePartitioning
from bqemulator.jobs import executor
from bqemulator.storage import partition_state
from bqemulator.storage.sql_identifiers import quoted_table_ref
from bqemulator.versioning.snapshots import SnapshotManager
from sqlglot import exp, parse_one

_sync_created_table = executor.sync_created_table
_record_change = SnapshotManager.record_change
_table_to_rest = tables._table_to_rest
_list_partitions = partition_state.list_partitions_for_table
# (project, dataset, table) → partition → digest of its rows, when they were written
_WRITTEN: dict[tuple[str, str, str], dict[str, tuple[int, datetime]]] = {}


def correct_table_metadata() -> None:
    """Keep what a table is partitioned and clustered by, and when each partition was written.

    The emulator reads neither from `create table … partition by timestamp_trunc(…) cluster by …`,
    it takes the time of creation for that of every change, its answer about a view lacks the SQL,
    and its time travel finds the rows of a table before `create or replace`.
    """
    executor.sync_created_table = _sync_with_layout
    SnapshotManager.record_change = _record_with_times
    partition_state.list_partitions_for_table = _list_with_times
    tables._table_to_rest = _answer_with_sql


def _sync_with_layout(sql: str, project: str, context: Any) -> None:
    _sync_created_table(sql, project, context)
    created = parse_one(sql, read="bigquery")
    if not isinstance(created, exp.Create) or created.kind != "TABLE":
        return
    target = created.find(exp.Table)
    name = (target.catalog or project, target.db, target.name)
    table = context.catalog.get_table(*name)
    if table is None:
        return
    layout: dict[str, Any] = {}
    if partitioned := created.find(exp.PartitionedByProperty):
        layout["time_partitioning"] = TimePartitioning(field=partitioned.find(exp.Column).name)
    if clustered := created.find(exp.ClusterProperty):
        columns = [item.name for item in clustered.expressions]
        layout["clustering"] = Clustering(fields=tuple(columns))
    context.catalog.update_table(table.model_copy(update=layout))
    context.snapshots.record_change(*name)


def _record_with_times(self: SnapshotManager, project: str, dataset: str, table: str) -> Any:
    recorded = _record_change(self, project, dataset, table)
    found = self._catalog.get_table(project, dataset, table)
    if recorded is not None and found is not None:
        now = recorded.snapshot_time
        self._catalog.update_table(found.model_copy(update={"last_modified_time": now}))
        _note_partitions(self, found, now)
    return recorded


def _note_partitions(manager: SnapshotManager, table: Any, now: datetime) -> None:
    """Note `now` for every daily partition whose rows are others than before."""
    if table.time_partitioning is None or table.time_partitioning.field is None:
        return
    name = (table.project_id, table.dataset_id, table.table_id)
    reference = quoted_table_ref(*name)
    day = f"strftime(\"{table.time_partitioning.field}\", '%Y%m%d')"
    rows = manager._engine.execute(
        f"select {day}, sum(hash(t)) from {reference} as t group by 1"
    ).fetchall()
    before = _WRITTEN.get(name, {})
    _WRITTEN[name] = {
        partition: before[partition]
        if partition in before and before[partition][0] == digest
        else (digest, now)
        for partition, digest in rows
    }


def _list_with_times(engine: Any, table: Any) -> tuple[Any, ...]:
    written = _WRITTEN.get((table.project_id, table.dataset_id, table.table_id), {})
    return tuple(
        partition.model_copy(update={"last_modified_time": written[partition.partition_id][1]})
        if partition.partition_id in written
        else partition
        for partition in _list_partitions(engine, table)
    )


def _answer_with_sql(table: Any) -> dict[str, Any]:
    answer: dict[str, Any] = _table_to_rest(table)
    if table.view_query:
        answer["view"] = {"query": table.view_query, "useLegacySql": False}
    return answer

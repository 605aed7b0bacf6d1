"""Feast stores and tables in the BigQuery emulator."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from feast import BigQuerySource, FeatureStore, RepoConfig
from google.cloud import bigquery

OURS = "runner.warehouse.bigquery.offline_store.PointInTimeBigQueryOfflineStore"
_ARROW = {
    "INT64": pa.int64(),
    "STRING": pa.string(),
    "FLOAT64": pa.float64(),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),
    "DATETIME": pa.timestamp("us"),
    "BOOL": pa.bool_(),
}


def feast_store(dataset: str, folder: Path, objects: list[Any], **options: Any) -> FeatureStore:
    """Return a store that uploads to `dataset`, with `objects` applied."""
    config = RepoConfig(
        project="test",
        provider="local",
        registry={"path": str(folder / "registry.db"), "cache_ttl_seconds": 3600},
        entity_key_serialization_version=3,
        online_store={"type": "sqlite", "path": str(folder / "online.db")},
        offline_store={"type": OURS, "dataset": dataset, **options},
    )
    store = FeatureStore(config=config)
    store.apply(objects)
    return store


def source(name: str, relation: str, created: str = "created_at", **options: Any) -> Any:
    """Return a BigQuery data source over a table, or over a query when `relation` selects."""
    where = {"query": relation} if relation.startswith("select") else {"table": relation}
    return BigQuerySource(
        name=name,
        **where,
        **{"timestamp_field": "event_timestamp", "created_timestamp_column": created, **options},
    )


def fill(
    client: bigquery.Client, table: str, types: dict[str, str], rows: list[tuple[Any, ...]]
) -> None:
    """Make `table` (dataset.table) anew, with columns of `types` and these rows."""
    columns = list(zip(*rows, strict=True)) or [()] * len(types)
    arrow = pa.table(
        {
            name: pa.array(_naive(values, kind), _ARROW[kind])
            for (name, kind), values in zip(types.items(), columns, strict=True)
        }
    )
    load_arrow(client, table, arrow)


def load_arrow(client: bigquery.Client, table: str, rows: pa.Table) -> None:
    """Make `table` (dataset.table) anew from Arrow."""
    file = io.BytesIO()
    pq.write_table(rows, file)
    file.seek(0)
    kinds = {arrow: kind for kind, arrow in _ARROW.items()}
    options = bigquery.LoadJobConfig(
        source_format="PARQUET",
        write_disposition="WRITE_TRUNCATE",
        schema=[bigquery.SchemaField(field.name, kinds[field.type]) for field in rows.schema],
    )
    client.load_table_from_file(file, table, job_config=options, project=client.project).result()


def _naive(values: tuple[Any, ...], kind: str) -> list[Any]:
    if kind != "DATETIME":
        return list(values)
    return [None if value is None else value.replace(tzinfo=None) for value in values]

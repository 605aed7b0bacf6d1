"""Feast stores for the tests: a registry in a temporary folder, ours or stock Feast's join."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from feast import FeatureStore, RepoConfig
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)

from runner.settings import PostgresAddress

OURS = "runner.warehouse.postgres.offline_store.PointInTimePostgreSQLOfflineStore"
STOCK = "postgres"


def feast_store(
    address: PostgresAddress, folder: Path, objects: list[Any], kind: str = OURS, **options: Any
) -> FeatureStore:
    """Return a store over `address` with `objects` applied."""
    config = RepoConfig(
        project="test",
        provider="local",
        registry={"path": str(folder / f"registry_{kind[-8:]}.db"), "cache_ttl_seconds": 3600},
        entity_key_serialization_version=3,
        online_store={"type": "sqlite", "path": str(folder / "online.db")},
        offline_store={
            "type": kind,
            "host": address.host,
            "port": address.port,
            "user": address.user,
            "password": address.password,
            "database": address.database,
            "sslmode": "disable",
            **options,
        },
    )
    store = FeatureStore(config=config)
    store.apply(objects)
    return store


def source(name: str, relation: str, created: str = "created_at", **options: Any) -> Any:
    """Return a PostgreSQL data source over a table, or over a query when `relation` selects."""
    where = {"query": relation} if relation.startswith("select") else {"table": relation}
    return PostgreSQLSource(
        name=name,
        **where,
        **{"timestamp_field": "event_timestamp", "created_timestamp_column": created, **options},
    )

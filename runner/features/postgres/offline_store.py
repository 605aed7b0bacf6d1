"""Former path of `runner.warehouse.postgres.offline_store`."""

from runner.warehouse.postgres.offline_store import (
    PointInTimePostgreSQLOfflineStore,
    PointInTimePostgreSQLOfflineStoreConfig,
)

__all__ = ["PointInTimePostgreSQLOfflineStore", "PointInTimePostgreSQLOfflineStoreConfig"]

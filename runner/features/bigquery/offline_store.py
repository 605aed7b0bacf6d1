"""Former path of `runner.warehouse.bigquery.offline_store`."""

from runner.warehouse.bigquery.offline_store import (
    PointInTimeBigQueryOfflineStore,
    PointInTimeBigQueryOfflineStoreConfig,
)

__all__ = ["PointInTimeBigQueryOfflineStore", "PointInTimeBigQueryOfflineStoreConfig"]

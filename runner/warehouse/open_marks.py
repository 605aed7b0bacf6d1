"""Whether tables have changed and how new their rows are, in the warehouse of a target."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from runner.settings import Settings


def table_marks(settings: Settings, tables: Collection[str]) -> dict[str, str]:
    """Return table → a mark that changes soon after the table does; without unknown marks."""
    # Only one of them is imported: each takes its client library along.
    if settings.target == "cloud":
        from runner.warehouse.bigquery.table_marks import bigquery_marks

        return bigquery_marks(settings, tables)
    from runner.warehouse.postgres.table_marks import postgres_marks

    return postgres_marks(settings.postgres, tables)


def newest_time(settings: Settings, times: Mapping[str, str]) -> datetime | None:
    """Return the latest time up to now in these tables, by table → its column of times."""
    if settings.target == "cloud":
        from runner.warehouse.bigquery.table_marks import bigquery_newest

        return bigquery_newest(settings, times)
    from runner.warehouse.postgres.table_marks import postgres_newest

    return postgres_newest(settings.postgres, times)

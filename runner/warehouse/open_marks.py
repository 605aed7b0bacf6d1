"""Whether tables have changed, in the warehouse of a target."""

from __future__ import annotations

from collections.abc import Collection

from runner.settings import Settings


def table_marks(settings: Settings, tables: Collection[str]) -> dict[str, str]:
    """Return table → a mark that changes soon after the table does; without unknown marks."""
    # Only one of them is imported: each takes its client library along.
    if settings.target == "cloud":
        from runner.warehouse.bigquery.table_marks import bigquery_marks

        return bigquery_marks(settings, tables)
    from runner.warehouse.postgres.table_marks import postgres_marks

    return postgres_marks(settings.postgres, tables)

"""The raw tables that `runner collect` fills, in the warehouse of a target."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from runner.settings import Settings
from runner.warehouse.collected_table import CollectedStore, CollectedTable

RAW_SCHEMAS = {"local": "raw_data", "cloud": "raw_events"}
"""Where raw tables are, by target."""


@contextmanager
def open_collected(
    settings: Settings, table: CollectedTable, schema: str = ""
) -> Iterator[CollectedStore]:
    """Open `table` in `schema`; the raw schema of the settings' target if it is empty."""
    schema = schema or RAW_SCHEMAS[settings.target]
    # Only one of them is imported: each takes its client library along.
    if settings.target == "cloud":
        from runner.warehouse.bigquery.collected import open_bigquery_collected

        with open_bigquery_collected(settings, schema, table) as dataset:
            yield dataset
    else:
        from runner.warehouse.postgres.collected import open_postgres_collected

        with open_postgres_collected(settings.postgres, schema, table) as found:
            yield found

"""The tables that `runner collect` and `runner monitor` fill, in the warehouse of a target."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from runner.settings import Settings
from runner.warehouse.collected_table import CollectedStore, CollectedTable
from runner.warehouse.figures_table import FiguresStore
from runner.warehouse.log_sql import LogReader

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

        env = settings.env
        where = env["GOOGLE_CLOUD_PROJECT"], env.get("BIGQUERY_LOCATION")
        with open_bigquery_collected(*where, schema, table) as dataset:
            yield dataset
    else:
        from psycopg.conninfo import make_conninfo

        from runner.warehouse.postgres.collected import open_postgres_collected

        conninfo = make_conninfo("", **settings.postgres.conninfo, application_name="runner")
        with open_postgres_collected(conninfo, schema, table) as found:
            yield found


@contextmanager
def open_served_log(settings: Settings, table: CollectedTable) -> Iterator[LogReader]:
    """Open `table`, that of predictions, to be read.

    Raises
    ------
    RunnerError
        If nothing was collected yet.
    """
    schema = RAW_SCHEMAS[settings.target]
    if settings.target == "cloud":
        from runner.warehouse.bigquery.served_table import open_bigquery_log

        with open_bigquery_log(settings, schema, table.name) as dataset:
            yield dataset
    else:
        from runner.warehouse.postgres.served_table import open_postgres_log

        with open_postgres_log(settings.postgres, schema, table.name) as found:
            yield found


@contextmanager
def open_figures(settings: Settings) -> Iterator[FiguresStore]:
    """Open the table of what `runner monitor` found."""
    if settings.target == "cloud":
        from runner.warehouse.bigquery.figures import open_bigquery_figures

        with open_bigquery_figures(settings) as dataset:
            yield dataset
    else:
        from runner.warehouse.postgres.figures import open_postgres_figures

        with open_postgres_figures(settings.postgres) as found:
            yield found

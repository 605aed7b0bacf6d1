"""From Feast's objects to a plan of the join: what BigQuery reads."""

from __future__ import annotations

from feast.infra.offline_stores.bigquery_source import BigQuerySource

from runner.errors import RunnerError
from runner.warehouse.bigquery.session import quoted_table
from runner.warehouse.join.feast_protocols import FeastSource
from runner.warehouse.join.view_plan import strip_semicolon


def source_of(data_source: FeastSource) -> str:
    """Return what follows `from` for a BigQuerySource."""
    if not isinstance(data_source, BigQuerySource):
        raise RunnerError(
            f"data source {data_source.name} is a {type(data_source).__name__}",
            hint="build the definitions for this target: dbt parse --target cloud",
        )
    if data_source.query:
        return f"(\n{strip_semicolon(data_source.query)}\n)"
    return quoted_table(data_source.table)

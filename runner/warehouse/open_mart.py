"""The warehouse of a target, asked about one feature mart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from runner.errors import RunnerError
from runner.project.manifest import FeatureMart
from runner.settings import Settings
from runner.warehouse.duplicate_rows import DuplicateRows
from runner.warehouse.mart_snapshot import MartSnapshot


@contextmanager
def open_mart(settings: Settings, mart: FeatureMart) -> Iterator[MartSnapshot]:
    """Take a snapshot of `mart` in the warehouse of the settings' target.

    Raises
    ------
    RunnerError
        If its table does not exist, or dbt's manifest is of another target.
    """
    adapter = "bigquery" if settings.target == "cloud" else "postgres"
    if mart.adapter_type != adapter:
        raise RunnerError(
            f"{settings.manifest_path} describes tables of {mart.adapter_type}; target "
            f"{settings.target} has {adapter}",
            hint=f"run `dbt parse --target {settings.target}`",
        )
    # Only one of them is imported: each takes its client library along.
    if adapter == "bigquery":
        from runner.warehouse.bigquery.mart import open_bigquery_mart

        with open_bigquery_mart(settings, mart) as snapshot:
            yield snapshot
    else:
        from runner.warehouse.postgres.mart import open_postgres_mart

        with open_postgres_mart(settings.postgres, mart) as found:
            yield found


def find_duplicates(settings: Settings, mart: FeatureMart) -> DuplicateRows:
    """Return the duplicate rows of a mart: at once where a unique index rules them out.

    On BigQuery a table without duplicates is not read again until it changes.

    Raises
    ------
    RunnerError
        If the warehouse refuses the query.
    """
    # Only one of them is imported: each takes its client library along.
    if mart.adapter_type == "bigquery":
        from runner.warehouse.bigquery.duplicates import bigquery_duplicates

        return bigquery_duplicates(settings, mart)
    from runner.warehouse.postgres.duplicates import postgres_duplicates

    return postgres_duplicates(settings.postgres, mart)

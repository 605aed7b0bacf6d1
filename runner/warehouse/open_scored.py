"""A table for predictions in the warehouse of a target."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from runner.settings import Settings
from runner.warehouse.scored_table import ScoredBy, ScoredRows


@contextmanager
def open_scored(
    settings: Settings, table: tuple[str, str], rows: pa.Schema, by: ScoredBy
) -> Iterator[ScoredRows]:
    """Replace what the version wrote that day by what is written; nothing if it fails.

    Parameters
    ----------
    table
        Schema and name.
    rows
        The columns of the rows that are written, `ScoredBy`'s among them.
    """
    # Only one of them is imported: each takes its client library along.
    if settings.target == "cloud":
        from runner.warehouse.bigquery.scored import open_bigquery_scored

        with open_bigquery_scored(settings, table, rows, by) as dataset:
            yield dataset
    else:
        from runner.warehouse.postgres.scored import open_postgres_scored

        with open_postgres_scored(settings.postgres, table, rows, by) as found:
            yield found

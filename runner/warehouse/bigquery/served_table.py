"""The table of predictions in BigQuery, read only. The twin of `postgres.served_table`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from google.api_core.exceptions import BadRequest, NotFound
from google.cloud import bigquery

from runner.settings import Settings
from runner.sql import quote_bigquery
from runner.warehouse.bigquery.client import open_client
from runner.warehouse.log_sql import BigQueryLogSql, Cell, NoTableError, no_column

_LABELS = {"runner": "monitor"}


class BigQueryLogReader:
    """See `LogReader`."""

    def __init__(self, client: bigquery.Client, table: str) -> None:
        self._client = client
        self.sql = BigQueryLogSql(table)

    def rows(self, query: str) -> Sequence[Sequence[Cell]]:
        """See `LogReader`."""
        options = bigquery.QueryJobConfig(labels=_LABELS)
        try:
            job = self._client.query(query, job_config=options)
            return [row.values() for row in job.result()]
        except NotFound as err:
            raise NoTableError(err.message) from err
        except BadRequest as err:
            if "Unrecognized name" not in err.message:
                raise
            raise no_column(err.message) from err


@contextmanager
def open_bigquery_log(settings: Settings, schema: str, table: str) -> Iterator[BigQueryLogReader]:
    """Open the table in the project of GOOGLE_CLOUD_PROJECT."""
    with open_client(settings, f"{schema}.{table}") as client:
        yield BigQueryLogReader(client, quote_bigquery(client.project, schema, table))

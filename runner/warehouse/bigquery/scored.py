"""Predictions in BigQuery: a partition per day, replaced by one statement.

The rows are collected in a file on this machine, loaded into a table of their own, and one MERGE
takes them over and deletes what the version wrote that day: all or none, whenever the process dies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq
from google.api_core.exceptions import NotFound
from google.cloud import bigquery

from runner.settings import Settings
from runner.sql import quote_bigquery
from runner.warehouse.bigquery.client import arriving, open_client
from runner.warehouse.bigquery.datasets import ensure_dataset
from runner.warehouse.scored_table import DAY, MODEL, VERSION, ScoredBy, require_columns

_TYPES = {
    pa.int64(): "INT64",
    pa.int32(): "INT64",
    pa.float64(): "FLOAT64",
    pa.float32(): "FLOAT64",
    pa.string(): "STRING",
    pa.bool_(): "BOOL",
    pa.date32(): "DATE",
}
_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}  # of the REST API
_LABELS = {"runner": "predict"}


class BigQueryScored:
    """The rows of one model version and day, in a file until `commit`."""

    def __init__(
        self,
        client: bigquery.Client,
        table: tuple[str, str],
        file: IO[bytes],
        writer: pq.ParquetWriter,
    ) -> None:
        self._client = client
        self._dataset, self._table = table
        self._fields = [bigquery.SchemaField(field.name, _type(field)) for field in writer.schema]
        self._file = file
        self._writer = writer

    def write(self, rows: pa.Table) -> None:
        """Append rows to the file."""
        self._writer.write_table(rows)

    def prepare(self) -> None:
        """Make the table if it is not there."""
        needed = {field.name: field.field_type for field in self._fields}
        try:
            found = self._client.get_table(f"{self._dataset}.{self._table}").schema
            there = {field.name: _NAMES.get(field.field_type, field.field_type) for field in found}
            require_columns(f"{self._dataset}.{self._table}", there, needed)
        except NotFound:
            ensure_dataset(self._client, self._dataset)
            made = bigquery.Table(
                f"{self._client.project}.{self._dataset}.{self._table}", schema=self._fields
            )
            made.time_partitioning = bigquery.TimePartitioning(field=DAY)
            made.clustering_fields = [MODEL, VERSION]
            self._client.create_table(made, exists_ok=True)

    def commit(self, by: ScoredBy) -> None:
        """Replace what the version wrote that day by the rows of the file."""
        self._writer.close()
        parameters = [
            bigquery.ScalarQueryParameter("day", "DATE", by.at.date()),
            bigquery.ScalarQueryParameter("model", "STRING", by.model),
            bigquery.ScalarQueryParameter("version", "STRING", by.version),
        ]
        options = bigquery.QueryJobConfig(query_parameters=parameters, labels=_LABELS)
        with arriving(self._client, self._dataset, self._fields, self._file, _LABELS) as source:
            self._client.query(self._merge_sql(source), job_config=options).result()

    def _merge_sql(self, source: str) -> str:
        names = ", ".join(quote_bigquery(field.name) for field in self._fields)
        return (
            f"merge {quote_bigquery(self._dataset, self._table)} as t "
            f"using {source} as s on false "
            f"when not matched by source and t.{DAY} = @day and t.{MODEL} = @model "
            f"and t.{VERSION} = @version then delete "
            f"when not matched then insert ({names}) values ({names})"
        )


@contextmanager
def open_bigquery_scored(
    settings: Settings, table: tuple[str, str], columns: pa.Schema, by: ScoredBy
) -> Iterator[BigQueryScored]:
    """Replace what a version wrote that day by what is written; nothing if it fails."""
    hint = "run `runner doctor --target cloud`, or name another table with --to"
    with (
        open_client(settings, ".".join(table), hint=hint) as client,
        TemporaryFile() as file,
        pq.ParquetWriter(file, columns, coerce_timestamps="us") as writer,
    ):
        scored = BigQueryScored(client, table, file, writer)
        scored.prepare()
        yield scored
        scored.commit(by)


def _type(field: pa.Field) -> str:
    if pa.types.is_timestamp(field.type):
        return "TIMESTAMP"
    if pa.types.is_decimal(field.type):
        return "NUMERIC"
    return _TYPES[field.type]

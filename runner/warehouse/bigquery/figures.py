"""The table of what `runner monitor` found, in BigQuery. The twin of `postgres.figures`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from tempfile import TemporaryFile

import pyarrow as pa
import pyarrow.parquet as pq
from google.cloud import bigquery

from runner.settings import Settings
from runner.sql import quote_bigquery
from runner.warehouse.bigquery.client import arriving, open_client
from runner.warehouse.bigquery.datasets import ensure_dataset
from runner.warehouse.figures_table import COLUMNS, SCHEMA, TABLE, FiguredDays, FigureRow

_TYPES = {"text": "STRING", "date": "DATE", "float": "FLOAT64", "bigint": "INT64"}
_ARROW = {"text": pa.string(), "date": pa.date32(), "float": pa.float64(), "bigint": pa.int64()}
_LABELS = {"runner": "monitor"}


class BigQueryFigures:
    """See `FiguresStore`."""

    def __init__(self, client: bigquery.Client) -> None:
        self._client = client
        self._name = quote_bigquery(client.project, SCHEMA, TABLE)

    def replace(self, days: FiguredDays, rows: Sequence[FigureRow]) -> None:
        """See `FiguresStore`."""
        self._create()
        columns = zip(*((days.model, days.version, *row) for row in rows), strict=True)
        kinds = [_ARROW[kind] for kind in COLUMNS.values()]
        arrays = [pa.array(list(v), kind) for v, kind in zip(columns, kinds, strict=True)]
        fields = [bigquery.SchemaField(name, _TYPES[kind]) for name, kind in COLUMNS.items()]
        with TemporaryFile() as file:
            pq.write_table(pa.table(arrays, names=list(COLUMNS)), file)
            with arriving(self._client, SCHEMA, fields, file, _LABELS) as source:
                self._merge(source, days)

    def _merge(self, source: str, days: FiguredDays) -> None:
        """Delete the old figures and insert the new ones, in one statement."""
        names = ", ".join(map(quote_bigquery, COLUMNS))
        values = ", ".join(f"s.{quote_bigquery(name)}" for name in COLUMNS)
        self._run(
            f"merge {self._name} as t using {source} as s on false\n"
            f"when not matched by target then insert ({names}, written_at) "
            f"values ({values}, current_timestamp())\n"
            "when not matched by source and t.model_name = @model "
            "and t.model_version = @version and t.day between @first and @last then delete",
            [
                bigquery.ScalarQueryParameter("model", "STRING", days.model),
                bigquery.ScalarQueryParameter("version", "STRING", days.version),
                bigquery.ScalarQueryParameter("first", "DATE", days.first),
                bigquery.ScalarQueryParameter("last", "DATE", days.last),
            ],
        )

    def _create(self) -> None:
        ensure_dataset(self._client, SCHEMA)
        declared = ", ".join(f"{quote_bigquery(n)} {_TYPES[kind]}" for n, kind in COLUMNS.items())
        self._run(
            f"create table if not exists {self._name} ({declared}, written_at TIMESTAMP not null)",
            [],
        )

    def _run(self, sql: str, parameters: list[bigquery.ScalarQueryParameter]) -> None:
        options = bigquery.QueryJobConfig(query_parameters=parameters, labels=_LABELS)
        self._client.query(sql, job_config=options).result()


@contextmanager
def open_bigquery_figures(settings: Settings) -> Iterator[BigQueryFigures]:
    """Open the table in the project of GOOGLE_CLOUD_PROJECT."""
    with open_client(settings, f"{SCHEMA}.{TABLE}") as client:
        yield BigQueryFigures(client)

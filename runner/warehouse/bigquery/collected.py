"""A raw table that `runner collect` fills, in BigQuery: a partition per day, rows by load jobs.

A load job puts the rows into a table of their own, and a MERGE takes those over that are not there
yet: it can be repeated whenever the process dies. BigQuery allows some 1,500 of them a day.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, date, datetime, timedelta
from tempfile import TemporaryFile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from google.api_core.exceptions import NotFound
from google.cloud import bigquery

from runner.sql import quote_bigquery, text_bigquery
from runner.warehouse.bigquery.client import arriving, open_project, writing_alone
from runner.warehouse.bigquery.datasets import ensure_dataset
from runner.warehouse.collected_table import (
    CollectedColumn,
    CollectedRow,
    CollectedTable,
    CollectedValue,
)

_TYPES = {
    "text": ("STRING", "STRING", pa.string()),
    "bigint": ("INT64", "INT64", pa.int64()),
    "integer": ("INT64", "INT64", pa.int64()),
    "float": ("FLOAT64", "FLOAT64", pa.float64()),
    "bool": ("BOOL", "BOOL", pa.bool_()),
    "timestamp": ("TIMESTAMP", "TIMESTAMP", pa.timestamp("us", tz="UTC")),
    "date": ("DATE", "DATE", pa.date32()),
    "numeric": ("NUMERIC", "STRING", pa.string()),
    "json": ("JSON", "STRING", pa.string()),
}
"""By type: BigQuery's in the table, BigQuery's on the way there, Arrow's."""
_LABELS = {"runner": "collect"}


class BigQueryCollected:
    """The table."""

    rows_at_once = 50_000

    def __init__(self, client: bigquery.Client, schema: str, table: CollectedTable) -> None:
        self._client = client
        self._schema = schema
        self._table = table
        self._name = quote_bigquery(client.project, schema, table.name)

    def create(self) -> None:
        """Make the table unless it is there; add columns that it lacks."""
        if (found := self._found()) is not None:
            self._add_missing_columns({f.name: f.mode == "REQUIRED" for f in found.schema})
            return
        ensure_dataset(self._client, self._schema)
        declared = ", ".join(_declared(column) for column in self._table.columns)
        instant = quote_bigquery(self._table.day)
        rest = [quote_bigquery(name) for name in self._table.key if name != self._table.day]
        self._run(
            f"create table if not exists {self._name} "
            f"({declared}, collected_at TIMESTAMP not null default current_timestamp()) "
            f"partition by timestamp_trunc({instant}, day) cluster by {', '.join(rest)}",
            [],
        )

    def append(self, rows: Sequence[CollectedRow]) -> int:
        """Write the rows that are not there yet; return how many those were."""
        self.create()
        fields = [_arriving(column) for column in self._table.columns]
        once = self._once(rows)
        position = self._table.position(self._table.day)
        span = _span([row[position] for row in once], self._table.repeated_within)
        with TemporaryFile() as file, self._in_order():
            pq.write_table(self._arrow(once), file, coerce_timestamps="us")
            with arriving(self._client, self._schema, fields, file, _LABELS) as source:
                return self._run(self._merge_sql(source), span)

    def delete_before(self, day: date) -> int:
        """Delete the partitions of the days before, which costs nothing."""
        if not self._exists():
            return 0
        instant = quote_bigquery(self._table.day)
        until = datetime(day.year, day.month, day.day, tzinfo=UTC)
        parameters = [bigquery.ScalarQueryParameter("until", "TIMESTAMP", until)]
        return self._run(f"delete from {self._name} where {instant} < @until", parameters)

    def delete_where(self, column: str, name: str, values: Sequence[str]) -> int:
        """Delete the rows whose JSON `column` has one of `values` as `name`; return how many."""
        if not self._exists():
            return 0
        path = text_bigquery(f"$.{json.dumps(name)}")
        return self._run(
            f"delete from {self._name} "
            f"where json_value({quote_bigquery(column)}, {path}) in unnest(@given)",
            [bigquery.ArrayQueryParameter("given", "STRING", list(values))],
        )

    def _in_order(self) -> AbstractContextManager[None]:
        """Append to a table of events one after the other; only `runner collect` writes the others.

        Then `collected_at`, by which builds find what is new, rises in the order of commits. And
        a MERGE that only inserts does not see rows of one that runs at the same time: the same
        row would be written twice.
        """
        if self._table.day in self._table.key:
            return nullcontext()
        return writing_alone(self._client, self._schema, self._table.name)

    def _once(self, rows: Sequence[CollectedRow]) -> Sequence[CollectedRow]:
        """Return the first of the rows with equal keys: a MERGE would write all of them."""
        positions = [self._table.position(name) for name in self._table.key]
        found: dict[tuple[CollectedValue, ...], CollectedRow] = {}
        for row in rows:
            found.setdefault(tuple(row[at] for at in positions), row)
        return list(found.values())

    def _exists(self) -> bool:
        return self._found() is not None

    def _found(self) -> bigquery.Table | None:
        try:
            return self._client.get_table(
                f"{self._client.project}.{self._schema}.{self._table.name}"
            )
        except NotFound:
            return None

    def _add_missing_columns(self, known: Mapping[str, bool]) -> None:
        """Add columns and allow nulls as now declared; leave a table that others created."""
        if "collected_at" not in known:
            return
        for column in self._table.columns:
            name = quote_bigquery(column.name)
            if column.name not in known:
                declared = f"{name} {_TYPES[column.type][0]}"
                self._run(f"alter table {self._name} add column if not exists {declared}", [])
            elif known[column.name] and not column.required:
                self._run(f"alter table {self._name} alter column {name} drop not null", [])

    def _arrow(self, rows: Sequence[CollectedRow]) -> pa.Table:
        columns = zip(*rows, strict=True)
        types = [_TYPES[column.type][2] for column in self._table.columns]
        arrays = [pa.array(list(v), kind) for v, kind in zip(columns, types, strict=True)]
        return pa.table(arrays, names=[column.name for column in self._table.columns])

    def _merge_sql(self, source: str) -> str:
        names = [quote_bigquery(column.name) for column in self._table.columns]
        values = [_arrived(column) for column in self._table.columns]
        key = [quote_bigquery(name) for name in self._table.key]
        same = " and ".join(f"t.{name} = s.{name}" for name in key)
        # Without the limits every partition would be read.
        return (
            f"merge {self._name} as t using {source} as s "
            f"on {same} and t.{quote_bigquery(self._table.day)} between @first and @last "
            f"when not matched then insert ({', '.join(names)}, collected_at) "
            f"values ({', '.join(values)}, current_timestamp())"
        )

    def _run(self, sql: str, parameters: Sequence[Any]) -> int:
        """Run a statement; return how many rows it wrote or deleted."""
        options = bigquery.QueryJobConfig(query_parameters=list(parameters), labels=_LABELS)
        job = self._client.query(sql, job_config=options)
        job.result()
        return int(job.num_dml_affected_rows or 0)


@contextmanager
def open_bigquery_collected(
    project: str | None, location: str | None, schema: str, table: CollectedTable
) -> Iterator[BigQueryCollected]:
    """Open the table in a project; None: that of the credentials."""
    with open_project(project, location, f"{schema}.{table.name}") as client:
        yield BigQueryCollected(client, schema, table)


def _span(
    instants: Sequence[object], repeated_within: timedelta
) -> list[bigquery.ScalarQueryParameter]:
    known = [instant for instant in instants if isinstance(instant, datetime)]
    limits = {"first": min(known) - repeated_within, "last": max(known) + repeated_within}
    return [bigquery.ScalarQueryParameter(n, "TIMESTAMP", at) for n, at in limits.items()]


def _declared(column: CollectedColumn) -> str:
    null = " not null" if column.required else ""
    return f"{quote_bigquery(column.name)} {_TYPES[column.type][0]}{null}"


def _arrived(column: CollectedColumn) -> str:
    name = f"s.{quote_bigquery(column.name)}"
    if column.type == "numeric":
        return f"cast({name} as NUMERIC)"
    return f"parse_json({name}, wide_number_mode => 'round')" if column.type == "json" else name


def _arriving(column: CollectedColumn) -> bigquery.SchemaField:
    return bigquery.SchemaField(column.name, _TYPES[column.type][1])

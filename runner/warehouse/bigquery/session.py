"""BigQuery jobs as the store runs them: labelled, limited in cost, read as Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from tempfile import TemporaryFile
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from feast.infra.offline_stores.bigquery import _get_bigquery_client
from google.api_core.exceptions import BadRequest, GoogleAPICallError, NotFound
from google.cloud import bigquery

from runner.bytes_billed import refusal
from runner.errors import RunnerError
from runner.sql import quote_bigquery
from runner.warehouse.bigquery.client import loaded
from runner.warehouse.bigquery.datasets import ensure_dataset
from runner.warehouse.bigquery.types import column_of
from runner.warehouse.join.join_parts import JoinColumn
from runner.warehouse.join.refusals import refusal_in

_UPLOAD = {"runner": "upload"}
_ROW_GROUP = 100_000  # rows of an upload that are encoded at a time
_TYPES = {
    pa.int64(): "INT64",
    pa.string(): "STRING",
    pa.large_string(): "STRING",
    pa.bool_(): "BOOL",
    pa.binary(): "BYTES",
    pa.float64(): "FLOAT64",
    pa.date32(): "DATE",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP",
    pa.timestamp("ns", tz="UTC"): "TIMESTAMP",
}


class BigQuerySession:
    """A client and the configuration of its jobs."""

    def __init__(self, store: Any) -> None:
        """Connect as `store`, the offline store's configuration, says."""
        self._store = store
        self._client = _get_bigquery_client(
            project=store.billing_project_id or store.project_id, location=store.location
        )
        self._running: bigquery.QueryJob | None = None

    def describe(self, query: str, what: str) -> tuple[JoinColumn, ...]:
        """Return the columns of `query`; a dry run, which reads nothing and costs nothing.

        Raises
        ------
        RunnerError
            If BigQuery does not accept the query; the message holds its reason.
        """
        with _failures(what):
            job = self._client.query(query, job_config=self._options("describe", dry_run=True))
            return tuple(column_of(field) for field in job.schema)

    def would_read(self, query: str) -> tuple[int, list[tuple[str, str, str]]]:
        """Return the bytes that `query` would read, and of which tables and views; a dry run.

        Raises
        ------
        RunnerError
            If BigQuery does not accept the query; the message is its reason.
        """
        try:
            job = self._client.query(query, job_config=self._options("plan", dry_run=True))
        except (BadRequest, NotFound) as err:
            raise RunnerError(_reason(err), hint="correct the SQL, or build what it reads") from err
        names = [(name.project, name.dataset_id, name.table_id) for name in job.referenced_tables]
        return int(job.total_bytes_processed), names

    def read(
        self, query: str, what: str, timeout: float | None = None, purpose: str = "read"
    ) -> pa.Table:
        """Return the result of `query`; leaving early cancels it.

        What it was billed is in the metadata of the table's schema: `bytes_processed` and
        `bytes_billed`.

        Parameters
        ----------
        what
            What errors call it, such as `the point-in-time join`.
        purpose
            The job's label.
        """
        with _failures(what):
            job = self._client.query(query, job_config=self._options(purpose))
            try:
                table = job.result(timeout=timeout).to_arrow()
            except BaseException:  # Ctrl-C too
                job.cancel()
                raise
        return _plain(table, job)

    @contextmanager
    def stream(
        self, query: str, what: str, timeout: float | None = None, purpose: str = "read"
    ) -> Iterator[pa.RecordBatchReader]:
        """Give a reader over the result of `query`, in its order; leaving early cancels it.

        By the Storage Read API in one stream, with memory for a few batches; where that is not
        installed, by HTTP, page by page. Parameters and metadata as in `read`.
        """
        with _failures(what):
            job = self._running = self._client.query(query, job_config=self._options(purpose))
            try:
                storage = self._client._ensure_bqstorage_client()
                batches = job.result(timeout=timeout).to_arrow_iterable(
                    storage, max_queue_size=2, max_stream_count=1
                )
                first = next(batches, None)
                if first is None:
                    yield _plain(job.result().to_arrow(), job).to_reader()
                else:
                    schema = _plain_schema(first.schema, job)
                    yield pa.RecordBatchReader.from_batches(
                        schema,
                        (
                            pa.RecordBatch.from_arrays(batch.columns, schema=schema)
                            for batch in chain([first], batches)
                        ),
                    )
            except BaseException:  # Ctrl-C too
                job.cancel()
                raise

    def cancel(self) -> None:
        """Cancel the query that `stream` runs, if any."""
        if self._running is not None:
            self._running.cancel()

    def table(self, name: tuple[str, str, str]) -> bigquery.Table | None:
        """Return what BigQuery knows of a table, which costs nothing; None where there is none."""
        with _failures(f"cannot look at table {'.'.join(name)}"), suppress(NotFound):
            dataset = bigquery.DatasetReference(*name[:2])
            found: bigquery.Table = self._client.get_table(dataset.table(name[2]))
            return found
        return None

    def write(self, query: str, table: str, *, replace: bool, timeout: float | None = None) -> None:
        """Write the result of `query` to `table`, all or nothing."""
        create = "create or replace table" if replace else "create table"
        with _failures(f"cannot write table {table}"):
            self._client.query(
                f"{create} {quoted_table(table)} as\n{query}", job_config=self._options("write")
            ).result(timeout=timeout)

    @contextmanager
    def uploaded(self, rows: pa.Table, name: tuple[str, str, str]) -> Iterator[None]:
        """Keep `rows` in a table called `name` while the context lasts."""
        fields = [_schema_field(field) for field in rows.schema]
        with ExitStack() as stack:
            with _failures("cannot upload the entity rows"):
                self._create_dataset(name)
                # By way of a file on disk: a spine is not to be in memory twice.
                with TemporaryFile() as file:
                    pq.write_table(rows, file, row_group_size=_ROW_GROUP, coerce_timestamps="us")
                    stack.enter_context(loaded(self._client, name, fields, file, _UPLOAD))
            yield

    def upload_name(self) -> tuple[str, str, str]:
        """Return project, dataset and a name of its own for a table to upload to."""
        project = self._store.project_id or self._client.project
        return project, self._store.dataset, f"entity_rows_{uuid4().hex}"

    def _create_dataset(self, name: tuple[str, str, str]) -> None:
        if self._store.table_create_disposition == "CREATE_NEVER":
            return
        dataset = bigquery.Dataset(".".join(name[:2]))
        if self._store.location:
            dataset.location = self._store.location
        ensure_dataset(self._client, dataset)

    def _options(self, purpose: str, *, dry_run: bool = False) -> bigquery.QueryJobConfig:
        options = bigquery.QueryJobConfig(
            dry_run=dry_run, use_legacy_sql=False, labels={"runner": purpose}
        )
        limit = self._store.maximum_bytes_billed
        # A dry run is not billed, and may be made to learn what is above the limit. The client
        # would send no limit as the text "None".
        if limit is not None and not dry_run:
            options.maximum_bytes_billed = limit
        return options


def _plain(table: pa.Table, job: bigquery.QueryJob) -> pa.Table:
    return pa.table(table.columns, _plain_schema(table.schema, job))


def _plain_schema(schema: pa.Schema, job: bigquery.QueryJob) -> pa.Schema:
    """Return the schema with the bill of `job` in place of the metadata that it has."""
    bill = {
        "bytes_processed": str(job.total_bytes_processed or 0),
        "bytes_billed": str(job.total_bytes_billed or 0),
    }
    # That of the fields repeats BigQuery's type, and by HTTP only.
    return pa.schema([field.remove_metadata() for field in schema], metadata=bill)


def _schema_field(field: pa.Field) -> bigquery.SchemaField:
    if field.type not in _TYPES:
        raise RunnerError(
            f"join key {field.name} of the entity DataFrame holds {field.type}",
            hint=f"convert {field.name} to whole numbers, text or times in UTC",
        )
    return bigquery.SchemaField(field.name, _TYPES[field.type])


def quoted_table(table: str) -> str:
    """Return `project.dataset.table`, with or without backticks, in backticks."""
    return quote_bigquery(*table.replace("`", "").split("."))


@contextmanager
def _failures(what: str) -> Iterator[None]:
    try:
        yield
    except GoogleAPICallError as err:
        reason = _reason(err)
        raise (
            refusal_in(reason)
            or refusal(what, reason)
            or RunnerError(
                f"{what}: {reason}", hint="try the SQL with `bq query`; run `dbt build` first"
            )
        ) from err


def _reason(error: GoogleAPICallError) -> str:
    """Return what BigQuery said, without the address and the number of the job."""
    told = [found["message"] for found in error.errors if found.get("message")]
    return told[0] if told else str(error.message)

"""Write the raw tables into BigQuery by load jobs, and know when they are there already.

The twin of load, and what differs has its reason in BigQuery: no transaction holds several load
jobs, so the table that records what is there is dropped first and written last.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
from google.api_core.exceptions import GoogleAPIError, NotFound
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery

from examples.shop.load import GENERATOR_VERSION, INCREMENTAL_MARTS, Parameters
from runner.errors import RunnerError
from runner.settings import Settings

SCHEMA = "raw_events"
_MICROSECONDS = pa.timestamp("us", tz="UTC")
_TYPES = {
    pa.int64(): "INT64",
    pa.string(): "STRING",
    pa.float64(): "FLOAT64",
    pa.bool_(): "BOOL",
    _MICROSECONDS: "TIMESTAMP",
}


@contextmanager
def connect(settings: Settings) -> Iterator[bigquery.Client]:
    """Give a client of the project in GOOGLE_CLOUD_PROJECT; what goes wrong is a RunnerError."""
    project = settings.env["GOOGLE_CLOUD_PROJECT"]
    try:
        with bigquery.Client(project, location=settings.env.get("BIGQUERY_LOCATION")) as client:
            yield client
    except (GoogleAPIError, GoogleAuthError) as error:
        raise RunnerError(
            f"BigQuery, project {project}: {error}", hint="run `runner doctor --target cloud`"
        ) from error


def is_loaded(client: bigquery.Client, parameters: Parameters) -> bool:
    """Return whether the raw tables hold exactly what `parameters` give; costs nothing."""
    try:
        found = client.list_rows(client.get_table(f"{SCHEMA}.loads")).to_arrow().to_pylist()
    except NotFound:
        return False
    return found == _load(parameters).to_pylist()


def write(
    client: bigquery.Client,
    tables: Mapping[str, pa.Table],
    parameters: Parameters,
    mart_schema: str,
) -> None:
    """Replace the raw tables by `tables`, and drop dbt's incremental marts: see `load.write`."""
    client.create_dataset(SCHEMA, exists_ok=True)
    client.delete_table(f"{SCHEMA}.loads", not_found_ok=True)
    for name in INCREMENTAL_MARTS:
        client.delete_table(f"{client.project}.{mart_schema}.{name}", not_found_ok=True)
    for name, table in {**tables, "loads": _load(parameters)}.items():
        replace(client, name, table)


def replace(client: bigquery.Client, name: str, table: pa.Table) -> None:
    """Replace one raw table by a load job."""
    file = io.BytesIO()
    pq.write_table(table, file)
    file.seek(0)
    options = bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.PARQUET,
        write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
        schema=[bigquery.SchemaField(field.name, _TYPES[field.type]) for field in table.schema],
        labels={"runner": "load"},
    )
    client.load_table_from_file(file, f"{SCHEMA}.{name}", job_config=options).result()


def _load(parameters: Parameters) -> pa.Table:
    """Return the row of `loads`."""
    return pa.table(
        {
            "loaded_from": pa.array([parameters.start], _MICROSECONDS),
            "loaded_until": pa.array([parameters.end], _MICROSECONDS),
            "users": [parameters.users],
            "days": [parameters.days],
            "seed": [parameters.seed],
            "generator_version": [GENERATOR_VERSION],
        }
    )

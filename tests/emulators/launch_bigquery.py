"""Start the BigQuery emulator, with corrections for what the official clients need.

A test double: it runs in an environment of its own (requirements-emulators.lock) and imports
nothing of the project. Each `correct_…` function is one difference between the emulator and
BigQuery that a test would stumble over.

    python launch_bigquery.py start --rest-port 9050 --grpc-port 9060 --project test-project
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

import duckdb
import duckdb_extensions
from bigquery_metadata import correct_table_metadata
from bqemulator import server
from bqemulator.api import app as api
from bqemulator.api.routes import upload
from bqemulator.cli import main
from bqemulator.jobs.executor import JOB_RESULTS
from bqemulator.storage.engine import DuckDBEngine
from sqlglot import exp, parse, parse_one
from starlette.responses import JSONResponse

_execute = DuckDBEngine.execute
_is_permitted = upload._is_permitted_media_type
_MIB = 2**20
# Of a table: project, dataset, its own.
Name = tuple[str, str, str]
_RESULT_TABLE = re.compile(r'"?([\w-]+__+_?bqemu_anonymous)"?\."?(anon([0-9a-zA-Z_-]+))"?')


def install_extensions() -> None:
    """Copy DuckDB's extensions from their wheels: nothing is fetched from the network."""
    for name in ("spatial", "avro"):
        duckdb_extensions.import_extension(name, con=duckdb.connect())


def correct_uploads() -> None:
    """Accept `*/*`, which google-cloud-bigquery sends for the file of a small load job."""
    upload._PERMITTED_MEDIA_CONTENT_TYPES += ("*/*",)
    upload._is_permitted_media_type = lambda kind: kind == "*/*" or _is_permitted(kind)


def correct_crashes() -> None:
    """Answer 400 for an unhandled exception; the client repeats a 500 for ten minutes."""
    inner = api.create_app

    def create_app(context: Any) -> Any:
        app = inner(context)

        @app.middleware("http")
        async def answer_400(request: Any, call_next: Any) -> Any:
            try:
                return await call_next(request)
            except Exception as error:  # whatever it is, the client must hear of it
                message = f"the emulator failed: {type(error).__name__}: {error}"
                errors = [{"reason": "invalid", "message": message}]
                return JSONResponse(
                    {"error": {"code": 400, "message": message, "errors": errors}}, 400
                )

        return app

    api.create_app = server.create_app = create_app


def correct_query_jobs() -> None:
    """Count the bytes of query jobs, refuse those above `maximumBytesBilled`, keep their labels.

    Ours is a full scan of the columns that the query names; BigQuery's own count may be lower.
    """
    inner = api.create_app

    def create_app(context: Any) -> Any:
        app = inner(context)

        @app.middleware("http")
        async def count_and_keep(request: Any, call_next: Any) -> Any:
            if request.method != "POST" or not request.url.path.endswith("/jobs"):
                return await call_next(request)
            configuration = json.loads(await request.body())["configuration"]
            query = configuration.get("query")
            if query is None:
                return await call_next(request)
            project = request.url.path.split("/projects/")[1].split("/")[0]
            read = _bytes_read(context, query["query"], project)
            billed = _billed(read)
            limit = int(query.get("maximumBytesBilled") or 0)
            if limit and billed > limit and not configuration.get("dryRun"):
                return _limit_exceeded(limit, billed)
            counted = {
                "totalBytesProcessed": str(sum(filter(None, read.values()))),
                "totalBytesBilled": str(billed),
                "referencedTables": [
                    {"projectId": project, "datasetId": dataset, "tableId": table}
                    for project, dataset, table in read
                ],
            }
            labels = configuration.get("labels", {})
            return await _remembered(await call_next(request), context, counted, labels)

        return app

    api.create_app = server.create_app = create_app


def _limit_exceeded(limit: int, billed: int) -> JSONResponse:
    message = f"Query exceeded limit for bytes billed: {limit}. {billed} or higher required."
    errors = [{"reason": "bytesBilledLimitExceeded", "message": message}]
    return JSONResponse({"error": {"code": 400, "message": message, "errors": errors}}, 400)


def _billed(read: Mapping[Name, int | None]) -> int:
    """Return the bytes billed: whole MiB, 10 at least for each table, if anything is read."""
    sizes = [size for size in read.values() if size is not None]
    return sum(max(-(-size // _MIB), 10) * _MIB for size in sizes) if any(sizes) else 0


async def _remembered(
    response: Any, context: Any, counted: dict[str, Any], labels: dict[str, str]
) -> Any:
    """Return the answer about a query job with what was counted; remember that and the labels."""
    text = b"".join([chunk async for chunk in response.body_iterator])
    body = json.loads(text)
    if response.status_code != 200:
        return JSONResponse(body, response.status_code)
    body["statistics"]["query"] |= counted
    reference = body["jobReference"]
    job = context.catalog.get_job(reference["projectId"], reference["jobId"])
    query = job.statistics["query"] | counted
    kept = {
        "statistics": job.statistics | {"query": query},
        "configuration": job.configuration | {"labels": labels},
    }
    context.catalog.upsert_job(job.model_copy(update=kept))
    return JSONResponse(body)


def _bytes_read(context: Any, sql: str, project: str) -> dict[Name, int | None]:
    """Return the bytes of the columns that `sql` names, by table.

    Views are looked through, and named with None: whether BigQuery names them is not known here.
    """
    read: dict[Name, int | None] = {}
    for table, columns in _named(sql):
        *owner, dataset, name = ["", *table.split(".")]
        found = context.catalog.get_table(owner[-1] if owner[1:] else project, dataset, name)
        if found is None:
            continue
        key = (found.project_id, dataset, name)
        if found.view_query:
            inner = _bytes_read(context, found.view_query, project)
            inner[key] = None
        else:
            inner = {key: _bytes_of(context, f"{found.project_id}__{dataset}", name, columns)}
        for part, size in inner.items():
            read[part] = None if size is None else (read.get(part) or 0) + size
    return read


@cache  # a view's query comes again with every query that reads it
def _named(sql: str) -> list[tuple[str, frozenset[str] | None]]:
    """Return each table that `sql` reads, and the names of the columns; None: all of them."""
    found = []
    for parsed in parse(sql, read="bigquery"):
        statement = parsed
        if isinstance(parsed, exp.Create):  # what is created is not read, a view's query neither
            statement = parsed.expression if parsed.kind == "TABLE" else None
        if statement is None:
            continue
        named = frozenset(column.name.lower() for column in statement.find_all(exp.Column))
        columns = None if statement.find(exp.Star) else named
        tables = statement.find_all(exp.Table)
        found += [(".".join(part.name for part in table.parts), columns) for table in tables]
    return found


def _bytes_of(context: Any, schema: str, table: str, columns: frozenset[str] | None) -> int:
    """Return a table's bytes by BigQuery's sizes of types; `columns` None: all of them."""
    relation = f'"{schema}"."{table}"'
    total = 0
    for name, kind, *_ in _execute(context.engine, f"describe {relation}").fetchall():
        if columns is None or name.lower() in columns:
            size = {"BOOLEAN": "1", "VARCHAR": f'2 + strlen("{name}")'}.get(kind, "8")
            query = f'select sum({size}) from {relation} where "{name}" is not null'
            total += int(_execute(context.engine, query).fetchone()[0] or 0)
    return total


def correct_engine() -> None:
    """Give the engine the tables of query results, and `create table (columns) as query`."""

    def execute(self: DuckDBEngine, sql: str, parameters: Any = None) -> Any:
        if "bqemu_anonymous" in sql:
            _materialize_results(self, sql)
        try:
            return _execute(self, sql, parameters)
        except duckdb.ParserException as error:
            created = parse_one(sql, read="duckdb") if 'at or near "AS"' in str(error) else None
            if not isinstance(created, exp.Create) or not isinstance(created.this, exp.Schema):
                raise
            return _create_as(self, created)

    DuckDBEngine.execute = execute


def _materialize_results(engine: DuckDBEngine, sql: str) -> None:
    """Make the result table of a query job where the Storage Read API is about to look for it."""
    for schema, table, key in _RESULT_TABLE.findall(sql):
        job = next((job for job in JOB_RESULTS if job.replace("-", "") == key), None)
        if job is not None:
            connection = engine.connection
            connection.execute(f'create schema if not exists "{schema}"')
            connection.register("_result", JOB_RESULTS[job])
            connection.execute(
                f'create table if not exists "{schema}"."{table}" as select * from _result'
            )
            connection.unregister("_result")


def _create_as(engine: DuckDBEngine, created: exp.Create) -> Any:
    """Create the table of a dbt model contract, then fill it: DuckDB wants two statements."""
    query = created.expression.sql("duckdb")
    created.set("expression", None)
    _execute(engine, f"create or replace temp table _filling as {query}")
    _execute(engine, created.sql("duckdb"))
    return _execute(engine, f"insert into {created.this.this.sql('duckdb')} select * from _filling")


if __name__ == "__main__":
    install_extensions()
    correct_uploads()
    correct_query_jobs()
    correct_crashes()
    correct_engine()
    correct_table_metadata()
    sys.exit(main())

"""Start the BigQuery emulator, with corrections for what the official clients need.

A test double: it runs in an environment of its own (requirements-emulators.lock) and imports
nothing of the project. Each `correct_…` function is one difference between the emulator and
BigQuery that a test would stumble over.

    python launch_bigquery.py start --rest-port 9050 --grpc-port 9060 --project test-project
"""

from __future__ import annotations

import re
import sys
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
from sqlglot import exp, parse_one
from starlette.responses import JSONResponse

_execute = DuckDBEngine.execute
_create_app = api.create_app
_is_permitted = upload._is_permitted_media_type
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

    def create_app(context: Any) -> Any:
        app = _create_app(context)

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
    correct_crashes()
    correct_engine()
    correct_table_metadata()
    sys.exit(main())

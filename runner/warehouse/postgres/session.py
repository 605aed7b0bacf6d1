"""Arrow in and out of PostgreSQL, through ADBC: binary COPY decoded in C, no Python per value.

A session is one transaction, read-only but for its own temporary tables, so that a pooler cannot
part it. It ends with the process: a query whose client was killed stops within seconds, and a
temporary table is gone. Ctrl-C cancels the running query on the server.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from typing import TypeVar

import pyarrow as pa
from adbc_driver_manager import Error as AdbcError
from adbc_driver_postgresql import dbapi
from psycopg.conninfo import make_conninfo

from runner.errors import RunnerError
from runner.sql import quote
from runner.warehouse.join.refusals import refusal_in
from runner.warehouse.postgres.session_settings import READ_ONLY, READ_WRITE, settings_sql
from runner.warehouse.postgres.store_config import PostgresStoreConfig

# The size of one batch, and with it the memory a stream needs beside what its reader keeps.
BATCH_BYTES = 2 * 2**20
_BATCH_OPTION = "adbc.postgresql.batch_size_hint_bytes"
_Result = TypeVar("_Result")


class PostgresSession:
    """A session of one transaction; made by `connect`."""

    def __init__(self, connection: dbapi.Connection, worker: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._worker = worker

    def upload(self, table: pa.Table, name: str) -> None:
        """Copy `table` into a new temporary table `name` and gather its statistics."""

        def work(cursor: dbapi.Cursor) -> None:
            cursor.adbc_ingest(name, table, mode="create", temporary=True)
            cursor.execute(f"analyze pg_temp.{quote(name)}")
            cursor.execute(READ_ONLY)

        with self._connection.cursor() as cursor:
            self._wait(cursor, self._worker.submit(work, cursor), "cannot upload the entity rows")

    def store(self, reader: pa.RecordBatchReader, table: str, *, replace: bool) -> None:
        """Write what `reader` gives to a new permanent table, which is all or nothing.

        Raises
        ------
        RunnerError
            If the table exists and `replace` is False.
        """
        schema, _, name = table.rpartition(".")
        mode = "replace" if replace else "create"
        with self._connection.cursor() as cursor, _failures(f"cannot write table {table}"):
            cursor.adbc_ingest(
                _unquoted(name),
                reader,
                mode=mode,
                db_schema_name=_unquoted(schema) if schema else None,
            )
            self._connection.commit()

    @contextmanager
    def read(self, query: str) -> Iterator[pa.RecordBatchReader]:
        """Give a reader over the result of `query`; leaving early cancels the query."""
        what = "the point-in-time query failed"

        def start() -> pa.RecordBatchReader:
            cursor.adbc_statement.set_options(**{_BATCH_OPTION: str(BATCH_BYTES)})
            cursor.execute(query)
            return cursor.fetch_record_batch()

        with self._connection.cursor() as cursor:
            source = self._wait(cursor, self._worker.submit(start), what)
            batches = self._prefetched(cursor, source, what)
            with closing(batches):
                yield pa.RecordBatchReader.from_batches(source.schema, batches)

    def _prefetched(
        self, cursor: dbapi.Cursor, source: pa.RecordBatchReader, what: str
    ) -> Generator[pa.RecordBatch, None, None]:
        """Yield `source`'s batches; the next one is decoded while the caller has the last."""
        following = self._worker.submit(_next, source)
        try:
            while (batch := self._wait(cursor, following, what)) is not None:
                following = self._worker.submit(_next, source)
                yield batch
        finally:
            _cancel(cursor, following)

    def _wait(self, cursor: dbapi.Cursor, future: Future[_Result], what: str) -> _Result:
        # ADBC turns Ctrl-C into an error of the driver. Waiting for a thread keeps it what it is.
        try:
            with _failures(what):
                return future.result()
        except KeyboardInterrupt:
            _cancel(cursor, future)
            raise


def _cancel(cursor: dbapi.Cursor, future: Future[_Result]) -> None:
    """End the query of `cursor` and wait until nothing uses it any more."""
    while not future.done():
        cursor.adbc_cancel()  # again, should the first have come before the query
        wait([future], timeout=1)


def _next(reader: pa.RecordBatchReader) -> pa.RecordBatch | None:
    try:
        return reader.read_next_batch()
    except StopIteration:
        return None


@contextmanager
def connect(
    config: PostgresStoreConfig, timeout: int | None = None, *, writes: bool = False
) -> Iterator[PostgresSession]:
    """Open a session for Feast's PostgreSQL `config`.

    Parameters
    ----------
    timeout
        Seconds after which the server gives up on a statement; None: never.
    writes
        Whether `upload` or `store` is to be called.
    """
    with _failures(f"cannot reach PostgreSQL at {config.host}:{config.port}"):
        connection = dbapi.connect(conninfo(config))
    with connection, ThreadPoolExecutor(1, thread_name_prefix="arrow") as worker:
        with connection.cursor() as cursor, _failures("cannot set the session"):
            cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})
            for statement in opening(config, timeout, writes=writes):
                cursor.execute(statement)
        yield PostgresSession(connection, worker)


def opening(
    config: PostgresStoreConfig, timeout: int | None = None, *, writes: bool = False
) -> tuple[str, str]:
    """Return what begins each transaction of ours for `config`."""
    search_path = config.db_schema or "public"
    if search_path != "public":
        search_path += ",public"
    settings = settings_sql(
        search_path=search_path.replace(" ", ""),
        client_connection_check_interval="2s",
        work_mem=config.work_mem,
        statement_timeout=f"{timeout or 0}s",
    )
    return READ_WRITE if writes else READ_ONLY, settings


def conninfo(config: PostgresStoreConfig) -> str:
    """Return libpq's connection string for `config`."""
    return make_conninfo(
        host=config.host,
        port=config.port,
        user=config.user,
        password=config.password,
        dbname=config.database,
        sslmode=config.sslmode,
        sslkey=config.sslkey_path,
        sslcert=config.sslcert_path,
        sslrootcert=config.sslrootcert_path,
        keepalives_idle=config.keepalives_idle,
        application_name="runner",
    )


def _unquoted(identifier: str) -> str:
    if identifier.startswith('"'):
        return identifier[1:-1].replace('""', '"')
    return identifier


@contextmanager
def _failures(what: str) -> Iterator[None]:
    try:
        yield
    except (AdbcError, OSError, pa.ArrowException) as err:
        if refused := refusal_in(err):
            raise refused from err
        raise RunnerError(
            f"{what}: {str(err).partition('Query was:')[0].strip()}",
            hint="`runner status` shows the servers, `runner plan RECIPE --json` the SQL",
        ) from err

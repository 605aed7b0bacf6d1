"""Arrow in and out of PostgreSQL, through ADBC: binary COPY decoded in C, no Python per value.

A session is one transaction, read-only but for its own temporary tables, so that a pooler cannot
part it. It ends with the process: a query whose client was killed stops within seconds, and a
temporary table is gone. Ctrl-C cancels the running query on the server.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial

import pyarrow as pa
from adbc_driver_manager import Error as AdbcError
from adbc_driver_postgresql import dbapi
from psycopg.conninfo import make_conninfo

from runner.errors import RunnerError
from runner.sql import quote
from runner.warehouse.join.refusals import refusal_in
from runner.warehouse.postgres.session_settings import READ_ONLY, READ_WRITE, settings_sql
from runner.warehouse.postgres.store_config import PostgresStoreConfig
from runner.warehouse.prefetch import in_thread, prefetched

# The size of one batch, and with it the memory a stream needs beside what its reader keeps.
BATCH_BYTES = 2 * 2**20
_BATCH_OPTION = "adbc.postgresql.batch_size_hint_bytes"


class PostgresSession:
    """A session of one transaction; made by `connect`."""

    def __init__(self, connection: dbapi.Connection) -> None:
        self._connection = connection

    def upload(self, table: pa.Table, name: str) -> None:
        """Copy `table` into a new temporary table `name` and gather its statistics."""

        def work() -> None:
            cursor.adbc_ingest(name, table, mode="create", temporary=True)
            cursor.execute(f"analyze pg_temp.{quote(name)}")
            cursor.execute(READ_ONLY)

        with self._connection.cursor() as cursor, _failures("cannot upload the entity rows"):
            in_thread(work, cursor.adbc_cancel)

    def store(self, reader: pa.RecordBatchReader, table: str, *, replace: bool) -> None:
        """Write what `reader` gives to a new permanent table, which is all or nothing.

        Raises
        ------
        RunnerError
            If the table exists and `replace` is False.
        """
        schema, _, name = table.rpartition(".")

        def work() -> None:
            cursor.adbc_ingest(
                _unquoted(name),
                reader,
                mode="replace" if replace else "create",
                db_schema_name=_unquoted(schema) if schema else None,
            )

        with self._connection.cursor() as cursor, _failures(f"cannot write table {table}"):
            in_thread(work, cursor.adbc_cancel)
            self._connection.commit()

    @contextmanager
    def read(self, query: str) -> Iterator[pa.RecordBatchReader]:
        """Give a reader over the result of `query`; leaving early cancels the query."""
        what = "the point-in-time query failed"

        def start() -> pa.RecordBatchReader:
            cursor.adbc_statement.set_options(**{_BATCH_OPTION: str(BATCH_BYTES)})
            cursor.execute(query)
            return cursor.fetch_record_batch()

        def batches() -> Generator[pa.RecordBatch, None, None]:
            with _failures(what):
                yield from prefetched(source, cursor.adbc_cancel)

        with self._connection.cursor() as cursor:
            with _failures(what):
                source = in_thread(start, cursor.adbc_cancel)
            with closing(batches()) as following:
                yield pa.RecordBatchReader.from_batches(source.schema, following)


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
    with connection:
        with connection.cursor() as cursor, _failures("cannot set the session"):
            cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})
            for statement in opening(config, timeout, writes=writes):
                in_thread(partial(cursor.execute, statement), cursor.adbc_cancel)
        yield PostgresSession(connection)


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

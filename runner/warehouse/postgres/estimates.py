"""What PostgreSQL expects of a query before it runs. The twin of `bigquery.estimates`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from runner.bytes_billed import Expected
from runner.errors import RunnerError
from runner.settings import PostgresAddress
from runner.warehouse.postgres.session_settings import READ_ONLY, settings_sql


class PostgresEstimates:
    """A transaction that cannot write, and asks the planner only: no query is run.

    Attributes
    ----------
    limit
        Most bytes that a query may be billed for: PostgreSQL bills nothing.
    """

    limit = None

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def exists(self, relation: str) -> bool:
        """Return whether there is a table or view `relation`, quoted."""
        row = self._connection.execute("select to_regclass(%s) is not null", [relation]).fetchone()
        return bool(row and row[0])

    def merge_reads(self, _relation: str) -> list[str]:
        """Return what merging new rows into `relation` reads of it: here an index is enough."""
        return []

    def expected(self, query: str, _fills: str | None) -> Expected:
        """Return what the planner expects of `query`.

        Raises
        ------
        RunnerError
            If PostgreSQL does not accept the query.
        """
        try:
            with self._connection.transaction():  # a savepoint: a refusal ends only this
                explained: Any = self._connection.execute(
                    b"explain (format json) " + query.encode()
                ).fetchone()
        except psycopg.OperationalError:
            raise
        except psycopg.Error as err:
            reason = str(err).splitlines()[0]
            raise RunnerError(reason, hint="correct the SQL, or build what it reads") from err
        return Expected(int(explained[0][0]["Plan"]["Plan Rows"]), None)


@contextmanager
def open_estimates(address: PostgresAddress) -> Iterator[PostgresEstimates]:
    """Open a transaction that cannot write."""
    with psycopg.connect(**address.conninfo) as connection:  # type: ignore[arg-type]
        connection.execute(READ_ONLY)
        connection.execute(settings_sql().encode())
        yield PostgresEstimates(connection)

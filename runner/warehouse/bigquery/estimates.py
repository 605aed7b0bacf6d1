"""What BigQuery says of a query before it runs. The twin of `postgres.estimates`."""

from __future__ import annotations

from functools import cache
from typing import Any

from google.api_core.exceptions import Forbidden
from google.cloud import bigquery

from runner.bytes_billed import Billed, Expected, expected_bill
from runner.errors import RunnerError
from runner.warehouse.bigquery.session import BigQuerySession


class BigQueryEstimates:
    """Dry runs and the metadata of tables, which cost nothing.

    Attributes
    ----------
    limit
        Most bytes that a query may be billed for; None: any number.
    """

    def __init__(self, store: Any) -> None:
        """Ask as `store`, Feast's offline store configuration, says."""
        self.limit: int | None = store.maximum_bytes_billed
        self._session = BigQuerySession(store)
        self._table = cache(self._look_at)

    def exists(self, relation: str) -> bool:
        """Return whether there is a table or view `relation`, quoted."""
        return self._table(_path(relation)) is not None

    def merge_reads(self, relation: str) -> list[str]:
        """Return what merging new rows into `relation` reads of it: all of it at most."""
        return [f"select * from {relation}"]

    def expected(self, query: str, fills: str | None) -> Expected:
        """Return how many rows the table that `query` `fills` holds now, and the query's bill.

        Raises
        ------
        RunnerError
            If BigQuery does not accept the query.
        """
        table = self._table(_path(fills)) if fills else None
        rows = table.num_rows if table and table.table_type == "TABLE" else None
        read, names = self._session.would_read(query)
        tables = [name for name in names if not self._is_view(name)]
        return Expected(rows, Billed(read, expected_bill(read, len(tables))))

    def _is_view(self, name: tuple[str, str, str]) -> bool:
        """Return whether it is a view: what that reads is billed, and named beside it."""
        try:
            table = self._table(name)
        except RunnerError as err:
            if isinstance(err.__cause__, Forbidden):
                return False  # read through an authorized view: taken for a table, which costs most
            raise
        return table is not None and table.table_type == "VIEW"

    def _look_at(self, name: tuple[str, str, str]) -> bigquery.Table | None:
        return self._session.table(name)


def _path(relation: str) -> tuple[str, str, str]:
    project, dataset, name = relation.replace("`", "").split(".")
    return project, dataset, name

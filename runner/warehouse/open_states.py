"""What tables and views hold, in the warehouse of a target."""

from __future__ import annotations

from collections.abc import Collection

from runner.settings import Settings


def table_states(
    settings: Settings, tables: Collection[str], views: Collection[str], queries: str
) -> dict[str, str]:
    """Return table or view → digest of what it holds.

    Parameters
    ----------
    tables, views
        As written after `from`.
    queries
        The SQL that reads them.

    Raises
    ------
    UnknownStateError
        If that is not known, or `queries` call functions that may change.
    """
    # Only one of them is imported: each takes its client library along.
    if settings.target == "cloud":
        from runner.warehouse.bigquery.table_states import bigquery_states

        return bigquery_states(settings, tables, views, queries)
    from runner.warehouse.postgres.table_states import postgres_states

    return postgres_states(settings.postgres, tables, views, queries)

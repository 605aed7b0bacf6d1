"""The lock that a transaction takes before its snapshot of a table.

PostgreSQL's `truncate`, and an `alter table` that rewrites the rows, are not multi-version: a
snapshot that is older than they are finds an empty table once they have committed. A reader that
has the lock first waits for such a statement, or makes it wait. Every query takes the same lock,
but only after the snapshot, and `lock table` itself takes no snapshot.
"""

from __future__ import annotations

from runner.sql import text_postgres


def is_lockable_sql(table: str) -> str:
    """Return the query for whether `table`, as written after `from`, can be locked.

    A materialized view and a foreign table cannot; neither is ever truncated.
    """
    return (
        "select relkind in ('r', 'p', 'v') as is_lockable from pg_class "
        f"where oid = to_regclass({text_postgres(table)})"
    )


def lock_sql(table: str) -> str:
    """Return the statement; it covers partitions, child tables and the tables behind a view."""
    return f"lock table {table} in access share mode"

"""Marks that change soon after a table has changed, at no cost however large it is.

PostgreSQL counts what is inserted, updated and deleted. A session reports its counts when a
transaction ends, but not twice within a second, and an idle one up to 10 s later. So a changed mark
shows, often late, that there is something new; an unchanged mark does not show that there is
nothing. `table_states` does.
"""

from __future__ import annotations

from collections.abc import Collection

import psycopg

from runner.settings import PostgresAddress
from runner.sql import text_postgres
from runner.warehouse.postgres.session_settings import READ_ONLY, settings_sql

_MARK = """
with recursive tree as (
    select to_regclass({table})::oid as oid
    union
    select child.inhrelid from pg_inherits as child inner join tree on child.inhparent = tree.oid
)
select string_agg(
    concat_ws(
        '/', class.oid, class.relfilenode,
        pg_stat_get_tuples_inserted(class.oid), pg_stat_get_tuples_updated(class.oid),
        pg_stat_get_tuples_deleted(class.oid)
    ),
    ',' order by class.oid
) || concat(
    '/', (select max(stats_reset) from pg_stat_database where datname = current_database()),
    -- a crash sets every count to zero, and this
    '/', (select max(stats_reset) from pg_stat_bgwriter)
)
from pg_class as class
inner join tree on tree.oid = class.oid
where current_setting('track_counts')::boolean
having bool_and(class.relkind in ('r', 'p', 'm'))
"""


def postgres_marks(address: PostgresAddress, tables: Collection[str]) -> dict[str, str]:
    """Return table → its mark, without those of which nothing is counted, such as views.

    Parameters
    ----------
    tables
        As written after `from`.
    """
    found: dict[str, str] = {}
    with _reading(address) as connection:
        for table in tables:
            row = connection.execute(_MARK.format(table=text_postgres(table)).encode()).fetchone()
            if row and row[0]:
                found[table] = str(row[0])
    return found


def _reading(address: PostgresAddress) -> psycopg.Connection:
    connection = psycopg.connect(**address.conninfo)  # type: ignore[arg-type]
    connection.execute(READ_ONLY)
    connection.execute(settings_sql().encode())
    return connection

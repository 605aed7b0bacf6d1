"""What tables hold, as digests that differ once anything in a table has changed.

A scan counts the rows and adds up a hash of each row's version (`xmin`, which every insert and
update sets). It sees what PostgreSQL's statistics show only seconds later, and what no column of a
table shows, such as a deletion.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import psycopg
from psycopg.rows import dict_row

from runner.settings import PostgresAddress
from runner.sql import text_postgres
from runner.warehouse.postgres.session_settings import READ_ONLY, settings_sql
from runner.warehouse.postgres.table_footing import PARTS, footing_sql
from runner.warehouse.table_state import UnknownStateError, state_digest

_LONGEST = "20s"  # a build of what takes longer to read is worth its start-up
_VIEW = """
select case when relkind = 'v' then pg_get_viewdef(oid) end as sql from pg_class
where oid = to_regclass({table})
"""
_COLUMNS = """
select attname::text as name from pg_attribute
where attrelid = to_regclass({table}) and attnum > 0 and not attisdropped
"""
_ROWS = """
select
    count(*) as rows,
    sum(hashint8extended((tableoid::bigint << 32) | xmin::text::bigint, 0)) as versions
from {table}
"""
_WORD = re.compile(r"\w+")
_FUNCTIONS = """
select distinct proname::text as name from pg_proc
where pronamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
"""


class TableStates:
    """The states of tables in one PostgreSQL; made by `postgres_states`."""

    def __init__(self, connection: psycopg.Connection[dict[str, object]]) -> None:
        self._connection = connection

    def table(self, name: str) -> str:
        """Return a digest of what is known of a table, as written after `from`, and of its rows."""
        columns = [str(row["name"]) for row in self._rows(_COLUMNS, name)]
        [known] = self._ask(footing_sql(name, columns))
        if not columns or not known["is_tracked"]:
            raise UnknownStateError(f"{name} is not a table whose row versions say what changed")
        [rows] = self._ask(_ROWS.format(table=name))
        return state_digest([*(known[part] for part in PARTS), *rows.values()])

    def view(self, name: str) -> str:
        """Return a digest of a view's SQL."""
        found = [row["sql"] for row in self._rows(_VIEW, name)]
        if not any(found):
            raise UnknownStateError(f"{name} is not a view")
        return state_digest(found)

    def functions(self) -> set[str]:
        """Return the names of the functions that are not PostgreSQL's own."""
        return {str(row["name"]) for row in self._ask(_FUNCTIONS)}

    def _rows(self, sql: str, table: str) -> list[dict[str, object]]:
        return self._ask(sql.format(table=text_postgres(table)))

    def _ask(self, sql: str) -> list[dict[str, object]]:
        return self._connection.execute(sql.encode()).fetchall()


def postgres_states(
    address: PostgresAddress, tables: Collection[str], views: Collection[str], queries: str
) -> dict[str, str]:
    """Return the state of each table and view.

    Raises
    ------
    UnknownStateError
        If one is not there, is no table whose row versions say what changed, or takes too long; if
        `queries` call a function that is not PostgreSQL's own.
    """
    try:
        with psycopg.connect(**address.conninfo, row_factory=dict_row) as connection:  # type: ignore[arg-type]
            connection.execute(READ_ONLY)
            connection.execute(settings_sql(statement_timeout=_LONGEST).encode())
            states = TableStates(connection)
            found = {name: states.table(name) for name in tables}
            found |= {name: states.view(name) for name in views}
            functions = states.functions()
    except psycopg.Error as err:
        raise UnknownStateError(" ".join(str(err).split())) from err
    words = set(_WORD.findall(queries.lower()))
    if used := {name for name in functions if name.lower() in words}:
        raise UnknownStateError(f"a function of the database is used: {min(used)}")
    return found

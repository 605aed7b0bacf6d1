"""The tables that a query names, whether dbt knows of them or not."""

from __future__ import annotations

from collections.abc import Collection

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError


def tables_besides(sql: str, dialect: str, relations: Collection[str]) -> list[str] | None:
    """Return the tables that the query reads and that are not among `relations`.

    None if sqlglot cannot read it.

    Parameters
    ----------
    dialect
        sqlglot's name of it: `postgres` or `bigquery`.
    relations
        Tables as dbt writes them, quoted.
    """
    try:
        tree = sqlglot.parse_one(sql, read=dialect)
        known = {_path(exp.to_table(relation, dialect=dialect)) for relation in relations}
    except (SqlglotError, RecursionError, ValueError):
        return None
    known |= {(cte.alias.lower(),) for cte in tree.find_all(exp.CTE)}
    read = {_path(table): table for table in tree.find_all(exp.Table)}
    return sorted(
        table.sql(dialect=dialect)
        for path, table in read.items()
        if path not in known and not isinstance(table.this, exp.Func)
    )


def _path(table: exp.Table) -> tuple[str, ...]:
    return tuple(part.name.lower() for part in table.parts)

"""Which feature tables have the index that the point-in-time join descends."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import psycopg

from runner.project.manifest import FeatureMart
from runner.sql import quote_table, text_postgres

# A table's own index does not cover the tables that inherit from it. That of a partitioned table is
# valid only if every partition has one.
_INDEXES = """
select
    i.indisunique and i.indimmediate as is_unique,
    array(
        select a.attname::text
        from unnest(i.indkey::int2[]) with ordinality as k(attnum, position)
        left join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum
        where k.position <= i.indnkeyatts
        order by k.position
    ) as columns
from pg_index as i
inner join pg_class as c on c.oid = i.indexrelid
inner join pg_am as am on am.oid = c.relam
inner join pg_class as t on t.oid = i.indrelid
where i.indrelid = to_regclass({table})
  and i.indisvalid
  and i.indisready
  and i.indpred is null
  and am.amname = 'btree'
  and (t.relkind = 'p' or not exists (select from pg_inherits as h where h.inhparent = t.oid))
"""


# Below this, sorting the table takes well under a second.
_SMALL_TABLE = 100_000
_SIZE = """
select reltuples::bigint, relkind::text
from pg_class
where oid = to_regclass(%s)
"""


@dataclass(frozen=True)
class TableIndexes:
    """What the indexes of a table are good for.

    Attributes
    ----------
    indexes
        Of each whether it is unique, and its columns; None is an expression.
    """

    indexes: Sequence[tuple[bool, Sequence[str | None]]]

    def key_order(self, keys: Sequence[str], timestamp: str) -> tuple[str, ...] | None:
        """Return `keys` as an index has them that goes on with `timestamp`; None without one."""
        width = len(keys)
        for _, columns in self.indexes:
            if set(columns[:width]) == set(keys) and columns[width : width + 1] == [timestamp]:
                return tuple(filter(None, columns[:width]))
        return None

    def is_unique(self, columns: Collection[str]) -> bool:
        """Return whether no two rows have equal values in `columns`, none of them null."""
        return any(unique and set(parts) <= set(columns) for unique, parts in self.indexes)

    def hindrance(self, mart: FeatureMart) -> tuple[str, str] | None:
        """Return which index new rows are not found without, and what to add; None if there."""
        stamp, known = mart.timestamp_field, mart.known_at
        wanted = []
        if self.key_order(mart.join_keys, stamp) is None:
            wanted.append(", ".join([*mart.join_keys, stamp]))
        if not any(columns[0] == known for _, columns in self.indexes):
            wanted.append(known)
        if not wanted:
            return None
        missing = " and none on ".join(f"({columns})" for columns in wanted)
        listed = ", ".join(f"{{columns: [{columns}]}}" for columns in wanted)
        return (
            f"{quote_table(mart.schema, mart.alias)} has no index on {missing}",
            f"add to the config of its dbt model: indexes: [{listed}]",
        )

    def all_changed(self, mart: FeatureMart) -> tuple[str, str] | None:
        """Return which index changed rows are not known without, and what to add.

        None if it is there, or if the table's own unique index allows several rows of an entity
        with one event timestamp.
        """
        parts = [*mart.join_keys, mart.timestamp_field]
        known = list(filter(None, [mart.created_timestamp_column]))
        if not mart.join_keys or self.is_unique({*parts, *known}):
            return None
        listed = ", ".join(parts)
        proviso = "if no two rows share these, " if known else ""
        index = f"indexes: [{{columns: [{listed}], unique: true}}]"
        return (
            f"{quote_table(mart.schema, mart.alias)} has no unique index on ({listed})",
            f"{proviso}add to the config of its dbt model: {index}",
        )


def indexes_sql(table: str) -> str:
    """Return the query for the rows of `TableIndexes` of `table`, as written after `from`."""
    return _INDEXES.format(table=text_postgres(table))


def table_indexes(connection: psycopg.Connection, table: str) -> TableIndexes:
    """Look up the indexes of `table`, a name as written after `from`."""
    return TableIndexes(connection.execute(indexes_sql(table).encode()).fetchall())


def index_advice(
    connection: psycopg.Connection,
    table: str,
    keys: Sequence[str],
    timestamp: str,
    created: str | None = None,
) -> tuple[str, str] | None:
    """Return what is wrong with `table` and what to add to its dbt model.

    None where an index would change little: in a table of fewer than 100,000 rows.
    """
    rows, kind = connection.execute(_SIZE, [table]).fetchone() or (0, "r")
    columns = ", ".join([*keys, timestamp])
    if kind == "v":
        return (
            f"{table} is a view: each retrieval computes and sorts it whole",
            f"set materialized: table in its dbt model, with an index on ({columns})",
        )
    if rows < _SMALL_TABLE:
        return None
    wanted = ", ".join([*keys, timestamp, *([created] if created else [])])
    return (
        f"{table} has no index on ({columns}): each retrieval sorts its {rows:,} rows",
        f"add to the config of its dbt model: indexes: [{{columns: [{wanted}], unique: true}}]",
    )

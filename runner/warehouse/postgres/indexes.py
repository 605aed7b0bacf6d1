"""Which feature tables have the index that the point-in-time join descends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

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
where i.indrelid = to_regclass(%s)
  and i.indisvalid
  and i.indpred is null
  and am.amname = 'btree'
"""


# Below this, sorting the table takes well under a second.
_SMALL_TABLE = 100_000
_SIZE = """
select reltuples::bigint, relkind::text
from pg_class
where oid = to_regclass(%s)
"""


@dataclass(frozen=True)
class IndexCheck:
    """What the indexes of a table are good for.

    Attributes
    ----------
    is_usable
        One begins with the join keys, in any order, and goes on with the event timestamp.
    rules_out_ties
        A unique one holds nothing but join keys and timestamps: no two rows are equally new.
    """

    is_usable: bool
    rules_out_ties: bool


def check_indexes(
    connection: psycopg.Connection,
    table: str,
    keys: Sequence[str],
    timestamp: str,
    created: str | None = None,
) -> IndexCheck:
    """Look up the indexes of `table`, a name as it stands behind `from`.

    Parameters
    ----------
    created
        The created timestamp, where it takes part in the choice of the newest row.
    """
    identity = {*keys, timestamp, *([created] if created else [])}
    usable = rules_out_ties = False
    for is_unique, columns in connection.execute(_INDEXES, [table]).fetchall():
        leading, following = set(columns[: len(keys)]), columns[len(keys) : len(keys) + 1]
        usable |= leading == set(keys) and following == [timestamp]
        rules_out_ties |= is_unique and set(columns) <= identity
    return IndexCheck(usable, rules_out_ties)


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

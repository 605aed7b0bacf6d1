"""What a comparison of row versions between two runs rests on, beside the rows themselves.

A row's `xmin` says when it was written, not when it came into this table or what its columns were
called. So an incremental copy goes on only where all of this is as it was:

- server: the database, and when its server started (one that was restored has counted its
  transactions twice);
- tables: the table, its partitions and the tables that inherit from it, and their files, which
  `truncate`, `vacuum full`, `cluster` and most of `alter column type` replace;
- columns: their numbers (renamed, or dropped and added again), types, the labels of enums, the
  values that `add column … default` gives to rows that it does not touch;
- indexes: the unique ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from runner.sql import text_postgres

PARTS = ("server", "tables", "columns", "indexes")

_SQL = """
with recursive tree as (
    select to_regclass({table})::oid as oid
    union
    select child.inhrelid from pg_inherits as child inner join tree on child.inhparent = tree.oid
),
member as (
    select class.oid, class.relkind::text as kind, class.relfilenode as file, am.amname
    from pg_class as class
    inner join tree on tree.oid = class.oid
    left join pg_am as am on am.oid = class.relam
),
attribute as (
    select
        concat_ws(
            '/', a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attcollation,
            a.attmissingval::text, pg_get_expr(d.adbin, d.adrelid)
        ) as meaning,
        base.oid as type,
        -- A virtual column changes with what it is computed from, a composite type with its parts.
        a.attgenerated <> 'v' and base.typtype in ('b', 'e') and base.typcategory <> 'A'
            as is_plain
    from pg_attribute as a
    inner join tree on tree.oid = a.attrelid
    inner join pg_type as kind on kind.oid = a.atttypid
    inner join pg_type as base on base.oid = coalesce(nullif(kind.typbasetype, 0), kind.oid)
    left join pg_attrdef as d
        on d.adrelid = a.attrelid and d.adnum = a.attnum and a.attgenerated <> ''
    where a.attnum > 0 and not a.attisdropped and a.attname::text = any({columns})
)
select
    (select bool_and(kind = 'p' or (kind in ('r', 'm') and amname = 'heap')) from member)
    and (select bool_and(is_plain) from attribute) as is_tracked,
    concat_ws(
        '/', (select oid from pg_database where datname = current_database()),
        pg_postmaster_start_time()
    ) as server,
    (select string_agg(concat_ws('/', oid, kind, file), ',' order by oid) from member) as tables,
    concat_ws(
        ',', (select string_agg(meaning, ',' order by meaning) from attribute),
        (
            select string_agg(concat_ws('/', oid, enumlabel, enumsortorder), ',' order by oid)
            from pg_enum
            where enumtypid in (select type from attribute)
        )
    ) as columns,
    (
        select string_agg(indexrelid::text, ',' order by indexrelid)
        from pg_index
        where indrelid in (select oid from tree) and indisunique and indisvalid
    ) as indexes
"""


def footing_sql(table: str, columns: Iterable[str]) -> str:
    """Return the query for one row: `is_tracked`, then `PARTS`.

    `is_tracked` is false where row versions say nothing: for a view or a foreign table, or columns
    that are computed when they are read.

    Parameters
    ----------
    table
        As written after `from`.
    """
    listed = ", ".join(map(text_postgres, columns))
    return _SQL.format(table=text_postgres(table), columns=f"array[{listed}]::text[]")


def footing(row: Mapping[str, str | None]) -> dict[str, str]:
    """Return a digest of each of `PARTS`."""
    return {part: hashlib.sha256(str(row[part]).encode()).hexdigest()[:16] for part in PARTS}

"""PostgreSQL's SQL for what `mart_snapshot.MartSnapshot` returns of a feature mart.

The order of rows is that of `postgres.join_sql`, text by code point.

With an index on (join keys, event timestamp) the entities are found by jumping from key to key (a
skip-scan), each then by one descent: history is not read. Without one, or where history is short,
by `distinct on`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from textwrap import indent

from runner.project.manifest import FeatureMart
from runner.sql import quote, quote_table
from runner.warehouse.join.join_parts import JoinColumn
from runner.warehouse.mart_snapshot import CHANGED, EVENT_TIME, LATE, oldest_valid
from runner.warehouse.postgres.refusals import require_time
from runner.warehouse.postgres.types import whole_second

_TYPES = {
    "int64": "bigint",
    "int32": "integer",
    "float64": "double precision",
    "float32": "real",
    "string": "text",
    "bool": "boolean",
    "timestamp": "timestamptz",
}
# Reading 5 rows in index order takes as long as jumping over them.
_SHORT_HISTORY = 5


@dataclass(frozen=True)
class PostgresTable:
    """What a feature mart is in PostgreSQL at one snapshot.

    Attributes
    ----------
    is_tracked
        True where the versions of rows can be compared with those of an earlier run.
    horizon
        Transaction id below which every transaction had ended.
    key_order
        Join keys in the order of an index on (join keys, event timestamp); empty without one.
    has_ties
        False when a unique index rules out two equally new rows.
    has_versions
        False when a unique index rules out two rows of one entity with one event timestamp.
    rows
        How many there are, as PostgreSQL estimates it; 0 or less: it has not looked yet.
    history
        Rows per entity, as PostgreSQL estimates it; None: it has not looked yet.
    """

    mart: FeatureMart
    is_tracked: bool
    horizon: int
    key_order: tuple[str, ...]
    has_ties: bool
    has_versions: bool
    rows: float
    history: float | None

    @property
    def table(self) -> str:
        """The quoted name."""
        return quote_table(self.mart.schema, self.mart.alias)


def newest_rows_sql(
    source: PostgresTable, as_of: datetime, changed_since: tuple[int, datetime] | None
) -> str:
    """Return the SQL for the newest valid row per entity, as `MartSnapshot.newest_rows` says."""
    mart = source.mart
    # Of two versions of a row the older, which has not changed, is the newest once the newer one
    # is deleted; and nothing in PostgreSQL records a deletion.
    if changed_since is None or source.has_versions:
        changed = "true"
    else:
        changed = _changed(mart, *changed_since)
    outputs = _outputs(mart, changed)
    if not mart.join_keys:
        return _newest(source, as_of, outputs, [])
    if source.key_order and (source.history is None or source.history > _SHORT_HISTORY):
        return _by_skip_scan(source, as_of, outputs)
    return _by_distinct_on(source, as_of, outputs)


def arrived_rows_sql(source: PostgresTable, as_of: datetime, since: tuple[int, datetime]) -> str:
    """Return the SQL for the newest valid row per entity, as `MartSnapshot.arrived_rows` says.

    An index that begins with the time of knowledge gives the new rows, the one on (join keys,
    event timestamp) the newest row of each of their entities.
    """
    mart = source.mart
    horizon, instant = since
    keys = ", ".join(f"source.{quote(key)}" for key in source.key_order)
    present = [f"source.{quote(key)} is not null" for key in source.key_order]
    known = f"source.{quote(mart.known_at)}"
    arrived = f"({_written_since(horizon)} or {known} > {_instant(instant)})"
    where = [_recent(mart, instant), f"{known} <= {_instant(as_of)}", arrived, *present]
    entity = f"select distinct {keys} from {source.table} as source\nwhere {' and '.join(where)}"
    newest = _newest_of_entity(source, as_of, _outputs(mart, "true"))
    return f"with entity as materialized (\n{indent(entity, '    ')}\n)\n{newest}"


def next_visible_sql(source: PostgresTable, as_of: datetime, since: datetime | None) -> str:
    """Return the SQL for the first event timestamp after `as_of`: column `instant`, null if none.

    It looks at rows that are known before their event timestamp; with `since`, only at recent ones.
    """
    mart = source.mart
    stamp = f"source.{quote(mart.timestamp_field)}"
    where = [f"{stamp} > {_instant(as_of)}", f"{stamp} < '10000-01-01'"]
    where.append(f"source.{quote(mart.known_at)} < {stamp}")
    if since is not None:
        where.append(_recent(mart, since))
    return (
        f"select min({stamp})::timestamptz as instant from {source.table} as source\n"
        f"where {' and '.join(where)}"
    )


def existing_sql(source: PostgresTable, as_of: datetime, keys: Sequence[Sequence[object]]) -> str:
    """Return the SQL for which of `keys` have a valid row: column `position`, counted from 1."""
    mart = source.mart
    names = sorted(mart.join_keys)
    where = _visible(mart, as_of)
    if not names:
        found = f"select from {source.table} as source where {' and '.join(where)}"
        return f"select 1 as position where exists ({found})"
    dtypes = [mart.columns[name].dtype for name in names]
    given = ", ".join(_array([key[n] for key in keys], dtype) for n, dtype in enumerate(dtypes))
    aliases = ", ".join(f"key_{n}" for n in range(len(names)))
    match = [_is_key(name, f"given.key_{n}", dtypes[n]) for n, name in enumerate(names)]
    return (
        f"select given.position::integer as position\n"
        f"from unnest({given}) with ordinality as given({aliases}, position)\n"
        f"where exists (\n"
        f"    select from {source.table} as source where {' and '.join([*match, *where])}\n"
        f")"
    )


def sample_sql(source: PostgresTable, size: int) -> str:
    """Return the SQL for the join keys of up to `size` entities, others at each call."""
    mart = source.mart
    outputs = [_output(mart, key) for key in mart.join_keys]
    present = " and ".join(f"source.{quote(key)} is not null" for key in mart.join_keys)
    chosen = ""
    if source.is_tracked and source.rows > 0:
        # Rows, not entities, are drawn: enough of them that repetitions do not matter.
        percent = 100 * min(1, 3 * size * max(source.history or 1, 1) / source.rows)
        chosen = f" tablesample bernoulli ({percent})"
    return (
        f"select * from (\n"
        f"    select distinct {', '.join(outputs)}\n"
        f"    from {source.table} as source{chosen}\n    where {present}\n"
        f") as entity\norder by random()\nlimit {size}"
    )


def _by_skip_scan(source: PostgresTable, as_of: datetime, outputs: Sequence[str]) -> str:
    keys = ", ".join(map(quote, source.key_order))
    present = " and ".join(f"{quote(key)} is not null" for key in source.key_order)
    last = ", ".join(f"entity.{quote(key)}" for key in source.key_order)
    return (
        f"with recursive entity as (\n"
        f"    (select {keys} from {source.table} where {present} order by {keys} limit 1)\n"
        f"    union all\n"
        f"    select following.* from entity cross join lateral (\n"
        f"        select {keys} from {source.table} where ({keys}) > ({last})\n"
        f"        order by {keys} limit 1\n"
        f"    ) as following\n"
        f")\n{_newest_of_entity(source, as_of, outputs)}"
    )


def _newest_of_entity(source: PostgresTable, as_of: datetime, outputs: Sequence[str]) -> str:
    match = [f"source.{quote(key)} = entity.{quote(key)}" for key in source.key_order]
    newest = _newest(source, as_of, outputs, match)
    return (
        f"select newest.* from entity cross join lateral (\n{indent(newest, '    ')}\n) as newest"
    )


def _newest(
    source: PostgresTable, as_of: datetime, outputs: Sequence[str], match: Sequence[str]
) -> str:
    """Return the SQL for the newest row that satisfies `match`.

    `with ties` hands on only the equally new rows, so the sort by feature values has one row to
    sort nearly always; it still costs 3 of 10 microseconds per entity.
    """
    mart = source.mart
    where = " and ".join([*match, *_visible(mart, as_of)])
    if not source.has_ties:
        return (
            f"select {', '.join(outputs)} from {source.table} as source\n"
            f"where {where}\norder by {', '.join(_newest_first(mart))}\nlimit 1"
        )
    # xmin is a system column: `source.*` does not carry it.
    xmin = ", source.xmin" if source.is_tracked else ""
    return (
        f"select {', '.join(outputs)}\nfrom (\n"
        f"    select source.*{xmin} from {source.table} as source\n"
        f"    where {where}\n"
        f"    order by {', '.join(_newest_first(mart))}\n"
        f"    fetch first 1 row with ties\n"
        f") as source\n"
        f"order by {', '.join(_tie_break(mart))}\nlimit 1"
    )


def _by_distinct_on(source: PostgresTable, as_of: datetime, outputs: Sequence[str]) -> str:
    mart = source.mart
    keys = [f"source.{quote(key)}" for key in mart.join_keys]
    where = [f"{key} is not null" for key in keys] + _visible(mart, as_of)
    order = [*keys, *_newest_first(mart), *(_tie_break(mart) if source.has_ties else [])]
    return (
        f"select distinct on ({', '.join(keys)}) {', '.join(outputs)}\n"
        f"from {source.table} as source\nwhere {' and '.join(where)}\n"
        f"order by {', '.join(order)}"
    )


def _outputs(mart: FeatureMart, changed: str) -> list[str]:
    outputs = [_key_output(mart, key) for key in mart.join_keys]
    outputs += [f"source.{quote(mart.timestamp_field)}::timestamptz as {quote(EVENT_TIME)}"]
    outputs += [f"{changed} as {quote(CHANGED)}"]
    return outputs + [_output(mart, column.name) for column in mart.features]


def _recent(mart: FeatureMart, instant: datetime) -> str:
    return f"source.{quote(mart.known_at)} > {_instant(instant - LATE)}"


def _written_since(horizon: int) -> str:
    # Transaction ids count modulo 2^32: a row is later when it is less than half of that ahead.
    ahead = f"(source.xmin::text::bigint - {horizon % 2**32}) & {2**32 - 1}"
    return f"({ahead}) < {2**31}"


def _changed(mart: FeatureMart, horizon: int, instant: datetime) -> str:
    changed = _written_since(horizon)
    if mart.created_timestamp_column:
        changed += f" or source.{quote(mart.created_timestamp_column)} > {_instant(instant)}"
    return f"({changed})"


def _visible(mart: FeatureMart, as_of: datetime) -> list[str]:
    stamp = f"source.{quote(mart.timestamp_field)}"
    found = [f"{stamp} <= {_instant(as_of)}"]
    if oldest := oldest_valid(mart, as_of):
        found.append(f"{stamp} >= {_instant(oldest)}")
    else:
        found.append(_require_time(mart, mart.timestamp_field))
    if mart.created_timestamp_column:
        found.append(f"source.{quote(mart.created_timestamp_column)} <= {_instant(as_of)}")
        found.append(_require_time(mart, mart.created_timestamp_column))
    return found


def _require_time(mart: FeatureMart, name: str) -> str:
    column, table = quote(name), quote_table(mart.schema, mart.alias)
    return require_time(f"source.{column}", column, f"feature mart {mart.name}: {name}", table)


def _newest_first(mart: FeatureMart) -> list[str]:
    columns = [mart.timestamp_field, *filter(None, [mart.created_timestamp_column])]
    return [f"source.{quote(column)} desc" for column in columns]


def _tie_break(mart: FeatureMart) -> list[str]:
    return [
        f"source.{quote(column.name)}{_collation(column.dtype)} desc nulls last"
        for column in mart.features
    ]


def _collation(dtype: str) -> str:
    return '::text collate "C"' if dtype == "string" else ""


def _output(mart: FeatureMart, name: str) -> str:
    return f"source.{quote(name)}::{_TYPES[mart.columns[name].dtype]} as {quote(name)}"


def _key_output(mart: FeatureMart, name: str) -> str:
    kind = "timestamptz" if mart.columns[name].dtype == "timestamp" else ""
    value = f"source.{quote(name)}::{_TYPES[mart.columns[name].dtype]}"
    return f"{whole_second(value, JoinColumn(name, kind))} as {quote(name)}"


def _instant(moment: datetime) -> str:
    return f"'{moment.isoformat()}'::timestamptz"


def _array(values: Sequence[object], dtype: str) -> str:
    if dtype == "string":
        escaped = (str(value).replace("\\", "\\\\").replace('"', '\\"') for value in values)
        items = ",".join(f'"{text}"' for text in escaped).replace("'", "''")
        return f"'{{{items}}}'::text[]"
    numbers = ",".join(map(str, values))
    return f"'{{{numbers}}}'::{'bigint' if dtype == 'timestamp' else _TYPES[dtype]}[]"


def _is_key(name: str, given: str, dtype: str) -> str:
    column = f"source.{quote(name)}"
    if dtype == "timestamp":  # Feast's keys hold whole seconds
        return f"{column} >= to_timestamp({given}) and {column} < to_timestamp({given} + 1)"
    # An enum, a uuid and so on are declared as text.
    return f"{column}{'::text' if dtype == 'string' else ''} = {given}"

"""BigQuery's SQL for what `mart_snapshot.MartSnapshot` returns of a feature mart.

The twin of `postgres.newest_rows`, and what differs has its reason in BigQuery:

- there are no indexes to jump along: rows are numbered per key by newness, in one pass over the
  partitions that the ttl leaves;
- rows have no versions: a row counts as changed when its partition was written since;
- keys to look for go up as a table: no text of SQL is long enough for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from runner.project.manifest import FeatureMart
from runner.sql import quote_bigquery as quote
from runner.sql import text_bigquery
from runner.warehouse.bigquery.pull import newest_query
from runner.warehouse.bigquery.types import literal, order_of, whole_second
from runner.warehouse.join.join_parts import JoinColumn, conditions
from runner.warehouse.mart_snapshot import CHANGED, EVENT_TIME, oldest_valid

_TYPES = {
    "int64": "INT64",
    "int32": "INT64",
    "float64": "FLOAT64",
    "float32": "FLOAT64",
    "string": "STRING",
    "bool": "BOOL",
    "timestamp": "TIMESTAMP",
}


@dataclass(frozen=True)
class BigQueryTable:
    """A feature mart in BigQuery, as it was at `snapshot`.

    Attributes
    ----------
    snapshot
        None for a view, which has no history to look into.
    """

    mart: FeatureMart
    path: tuple[str, str, str]
    snapshot: datetime | None

    @property
    def relation(self) -> str:
        """What follows `from`, called `source`."""
        past = f" for system_time as of {literal(self.snapshot)}" if self.snapshot else ""
        return f"{quote(*self.path)} as source{past}"


def newest_rows_sql(source: BigQueryTable, as_of: datetime, changed: str, *, only: str = "") -> str:
    """Return the SQL for the newest valid row per entity, as `MartSnapshot.newest_rows` says.

    Parameters
    ----------
    changed
        The condition that CHANGED reports.
    only
        The condition that one of an entity's valid rows must satisfy; empty: none.
    """
    mart = source.mart
    keys = [_column(key) for key in mart.join_keys]
    outputs = [(_key_output(mart, key), key) for key in mart.join_keys]
    outputs += [(_column(mart.timestamp_field), EVENT_TIME), (changed, CHANGED)]
    outputs += [(_value(mart, column.name), column.name) for column in mart.features]
    newest = [_column(mart.timestamp_field)]
    if mart.created_timestamp_column:
        newest.append(_column(mart.created_timestamp_column))
    for column in mart.features:
        newest += order_of(_value(mart, column.name), JoinColumn(column.name, _TYPES[column.dtype]))
    where = [f"{key} is not null" for key in keys] + _visible(mart, as_of)
    return newest_query(source.relation, outputs, keys, newest, conditions(where, 6), only=only)


def next_visible_sql(source: BigQueryTable, as_of: datetime) -> str:
    """Return the SQL for the first instant after `as_of` at which a row begins to count.

    Column `instant`, null if there is none.
    """
    times = [_column(source.mart.timestamp_field)]
    if source.mart.created_timestamp_column:
        times.append(_column(source.mart.created_timestamp_column))
    visible = f"greatest({', '.join(times)})"
    return (
        f"select min({visible}) as instant\nfrom {source.relation}\n"
        f"where {visible} > {literal(as_of)}"
    )


def changed_sql(mart: FeatureMart, written: str, instant: datetime) -> str:
    """Return the condition that a row was `written` or has become visible since `instant`."""
    if not mart.created_timestamp_column:
        return written
    return f"({written} or {_column(mart.created_timestamp_column)} > {literal(instant)})"


def in_partitions_sql(mart: FeatureMart, partitions: Sequence[str]) -> str:
    """Return the condition that a row lies in one of the daily `partitions`."""
    if not partitions:
        return "false"
    days = ", ".join(map(text_bigquery, partitions))
    return f"format_timestamp('%Y%m%d', {_column(mart.timestamp_field)}) in ({days})"


def written_partitions_sql(path: tuple[str, str, str], since: datetime) -> str:
    """Return the SQL for the ids of the table's partitions that were written since an instant."""
    project, dataset, table = path
    return (
        f"select partition_id from {quote(project, dataset)}.INFORMATION_SCHEMA.PARTITIONS\n"
        f"where table_name = {text_bigquery(table)}\n"
        f"  and last_modified_time >= {literal(since)}"
    )


def existing_sql(source: BigQueryTable, as_of: datetime, keys: str) -> str:
    """Return the SQL for which keys have a valid row: column `position`.

    Parameters
    ----------
    keys
        The table of keys: `position`, then `key_0` … in the order of the join keys' names.
    """
    mart = source.mart
    match = [
        f"{_key(name, mart.columns[name].dtype)} = given.key_{n}"
        for n, name in enumerate(sorted(mart.join_keys))
    ]
    where = conditions([*match, *_visible(mart, as_of)], 6)
    return (
        f"select given.position\nfrom {keys} as given\nwhere exists (\n"
        f"    select 1 from {source.relation}\n    where {where}\n)"
    )


def no_keys_sql(mart: FeatureMart) -> str:
    """Return what replaces the table of keys of `existing_sql` where there is none."""
    types = [mart.columns[name].dtype for name in sorted(mart.join_keys)]
    kinds = ["string" if dtype == "string" else "int64" for dtype in types]
    keys = [f"cast(null as {kind}) as key_{n}" for n, kind in enumerate(kinds)]
    return f"(select {', '.join(['1 as position', *keys])})"


def any_sql(source: BigQueryTable, as_of: datetime) -> str:
    """Return the SQL for whether there is a valid row at all: column `position`, 1 or nothing."""
    where = conditions(_visible(source.mart, as_of), 2)
    return f"select 1 as position\nfrom {source.relation}\nwhere {where}\nlimit 1"


def sample_sql(source: BigQueryTable, size: int) -> str:
    """Return the SQL for the join keys of up to `size` entities, others at each call."""
    mart = source.mart
    outputs = ", ".join(f"{_value(mart, key)} as {quote(key)}" for key in mart.join_keys)
    present = " and ".join(f"{_column(key)} is not null" for key in mart.join_keys)
    return (
        f"select * from (\n    select distinct {outputs}\n    from {source.relation}\n"
        f"    where {present}\n)\norder by rand()\nlimit {size}"
    )


def _visible(mart: FeatureMart, as_of: datetime) -> list[str]:
    stamp = _column(mart.timestamp_field)
    found = [f"{stamp} <= {literal(as_of)}"]
    if oldest := oldest_valid(mart, as_of):
        found.append(f"{stamp} >= {literal(oldest)}")
    if mart.created_timestamp_column:
        found.append(f"{_column(mart.created_timestamp_column)} <= {literal(as_of)}")
    return found


def _column(name: str) -> str:
    return f"source.{quote(name)}"


def _value(mart: FeatureMart, name: str) -> str:
    return f"cast({_column(name)} as {_TYPES[mart.columns[name].dtype].lower()})"


def _key_output(mart: FeatureMart, name: str) -> str:
    column = JoinColumn(name, _TYPES[mart.columns[name].dtype])
    return whole_second(_value(mart, name), column)


def _key(name: str, dtype: str) -> str:
    # Feast's keys hold whole seconds.
    return f"unix_seconds({_column(name)})" if dtype == "timestamp" else _column(name)

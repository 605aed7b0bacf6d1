"""One snapshot of the PostgreSQL warehouse, read as Arrow batches, and how a mart stands in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
from adbc_driver_postgresql import dbapi
from psycopg.conninfo import make_conninfo

from runner.errors import RunnerError
from runner.manifest import FeatureMart
from runner.settings import PostgresAddress
from runner.sql import quote, quote_table

_BATCH_BYTES = 4 << 20


@dataclass(frozen=True)
class Source:
    """How a feature mart stands in PostgreSQL at one snapshot.

    Attributes
    ----------
    identity
        Changes when dbt builds the table anew; empty for what is not a table.
    horizon
        Transaction id below which every transaction had ended.
    key_order
        Join keys in the order of an index on (join keys, event timestamp); empty without one.
    has_ties
        False when a unique index rules out two equally new rows.
    rows
        How many there are, as PostgreSQL estimates it; 0 or less: it has not looked yet.
    history
        Rows per entity, as PostgreSQL estimates it; None: it has not looked yet.
    """

    mart: FeatureMart
    identity: str
    horizon: int
    key_order: tuple[str, ...]
    has_ties: bool
    rows: float
    history: float | None

    @property
    def table(self) -> str:
        """The quoted name."""
        return quote_table(self.mart.schema, self.mart.alias)


class Warehouse:
    """One read-only connection whose queries all see the same snapshot."""

    def __init__(self, connection: dbapi.Connection) -> None:
        self._connection = connection

    def now(self) -> datetime:
        """Return the server's time at the snapshot."""
        now: datetime = self.table("select transaction_timestamp() as now")["now"][0].as_py()
        return now

    def table(self, sql: str, *, use_copy: bool = True) -> pa.Table:
        """Return the whole result of `sql`; `use_copy` False for what is not a query."""
        with self._connection.cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": str(use_copy).lower()})
            cursor.execute(sql)
            return cursor.fetch_arrow_table()

    def batches(self, sql: str) -> Iterator[pa.RecordBatch]:
        """Return the result of `sql` bit by bit; the server sends as fast as we read."""
        with self._connection.cursor() as cursor:
            cursor.adbc_statement.set_options(
                **{"adbc.postgresql.batch_size_hint_bytes": str(_BATCH_BYTES)}
            )
            cursor.execute(sql)
            yield from cursor.fetch_record_batch()

    def describe(self, mart: FeatureMart) -> Source:
        """Return how `mart` stands in the warehouse.

        Raises
        ------
        RunnerError
            If its table does not exist.
        """
        found = self.table(_describe_sql(mart)).to_pylist()
        if not found:
            raise RunnerError(
                f"feature mart {mart.name}: no table {mart.schema}.{mart.alias} in {mart.database}",
                hint=f"run `dbt build --select +{mart.name}`",
            )
        row = found[0]
        is_table = row["kind"] in {"r", "p", "m"}
        # An index reads `u` or `-`, then its columns.
        indexes = [text.split("\x01") for text in row["indexes"]]
        return Source(
            mart=mart,
            identity=f"{row['database']}/{row['oid']}" if is_table else "",
            horizon=row["horizon"],
            key_order=_key_order(mart, [columns for _, *columns in indexes]),
            has_ties=not any(
                unique == "u" and _identifies(mart, columns) for unique, *columns in indexes
            ),
            rows=row["rows"],
            history=self._history(mart, row["rows"]),
        )

    def cancel(self) -> None:
        """Stop what the server is doing for us."""
        self._connection.adbc_cancel()

    def _history(self, mart: FeatureMart, rows: float) -> float | None:
        if rows <= 0 or not mart.join_keys:
            return None
        keys = ", ".join(map(quote, mart.join_keys))
        table = quote_table(mart.schema, mart.alias)
        sql = f"explain (format json) select distinct {keys} from {table}"
        plan = self.table(sql, use_copy=False)
        entities: float = json.loads(plan.column(0)[0].as_py())[0]["Plan"]["Plan Rows"]
        return rows / max(entities, 1)


@contextmanager
def open_warehouse(address: PostgresAddress) -> Iterator[Warehouse]:
    """Open a connection in a read-only, repeatable-read transaction."""
    with dbapi.connect(make_conninfo("", **address.conninfo), autocommit=True) as connection:
        with connection.cursor() as cursor:
            cursor.execute("set time zone 'UTC'")
            cursor.execute("set jit = off")
            cursor.execute("begin isolation level repeatable read read only")
        yield Warehouse(connection)


def _key_order(mart: FeatureMart, indexes: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the join keys as an index orders them, if one goes on with the event timestamp."""
    width = len(mart.join_keys)
    for columns in indexes:
        if set(columns[:width]) == set(mart.join_keys) and columns[width : width + 1] == [
            mart.timestamp_field
        ]:
            return tuple(columns[:width])
    return ()


def _identifies(mart: FeatureMart, columns: Sequence[str]) -> bool:
    """Tell whether rows that agree in join keys and timestamps agree in `columns`."""
    known = {*mart.join_keys, mart.timestamp_field, mart.created_timestamp_column}
    return set(columns) <= known


def _describe_sql(mart: FeatureMart) -> str:
    table = f"'{quote_table(mart.schema, mart.alias)}'".replace("\\", "\\\\")
    return f"""
        select
            class.relkind::text as kind,
            class.oid::bigint as oid,
            class.reltuples::float8 as rows,
            (select oid::bigint from pg_database where datname = current_database()) as database,
            pg_snapshot_xmin(pg_current_snapshot())::text::bigint as horizon,
            array(
                select
                    case when index.indisunique and index.indimmediate then 'u' else '-' end
                    || e'\\x01' || string_agg(attribute.attname, e'\\x01' order by part.n)
                from pg_index as index
                cross join lateral unnest(index.indkey::smallint[]) with ordinality as part(key, n)
                join pg_attribute as attribute
                    on attribute.attrelid = index.indrelid and attribute.attnum = part.key
                where
                    index.indrelid = class.oid and index.indisvalid
                    and index.indpred is null and index.indexprs is null
                    and part.n <= index.indnkeyatts
                group by index.indexrelid, index.indisunique, index.indimmediate
            ) as indexes
        from pg_class as class
        where class.oid = to_regclass({table})
    """

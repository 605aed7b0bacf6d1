"""A feature mart in PostgreSQL at one snapshot, read as Arrow batches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

import pyarrow as pa
from adbc_driver_manager import Error as AdbcError
from adbc_driver_postgresql import dbapi
from psycopg.conninfo import make_conninfo

from runner.errors import RunnerError
from runner.project.manifest import FeatureMart
from runner.settings import PostgresAddress
from runner.sql import quote, quote_table, text_postgres
from runner.warehouse.join.join_parts import JoinColumn
from runner.warehouse.join.refusals import refusal_in
from runner.warehouse.join.time_limits import AnswerColumn, refuse_impossible_times
from runner.warehouse.mart_snapshot import (
    CHANGED,
    EVENT_TIME,
    FEAST_TYPES,
    PushesSeen,
    missing_column,
    missing_table,
)
from runner.warehouse.postgres.indexes import TableIndexes, indexes_sql
from runner.warehouse.postgres.newest_rows import (
    PostgresTable,
    arrived_rows_sql,
    existing_sql,
    newest_rows_sql,
    next_visible_sql,
    sample_sql,
)
from runner.warehouse.postgres.pushes import order_sql, pushes_seen_sql
from runner.warehouse.postgres.session_settings import settings_sql
from runner.warehouse.postgres.share_lock import is_lockable_sql, lock_sql
from runner.warehouse.postgres.table_footing import footing, footing_sql
from runner.warehouse.postgres.types import exported
from runner.warehouse.prefetch import in_thread

_BATCH_BYTES = 512 << 10  # small, so that writing begins soon after reading
_HALF_OF_ALL_TRANSACTIONS = 2**31


class PostgresMart:
    """A feature mart over one read-only connection whose queries all see the same snapshot.

    Its horizon is the transaction id below which every transaction had ended: PostgreSQL's own row
    versions show what was written since, so that a late row or a correction is found whatever its
    timestamps say.
    """

    keys_at_once = 5_000

    def __init__(self, connection: dbapi.Connection, mart: FeatureMart) -> None:
        self._connection = connection
        self.mart = mart
        self.now: datetime = self._table("select transaction_timestamp() as now")["now"][0].as_py()
        self._source, self.identity = self._describe()
        self.horizon = self._source.horizon

    def knows_changes_since(self, horizon: int) -> bool:
        """Return whether the transaction ids since `horizon` are still distinct."""
        return 0 <= self.horizon - horizon < _HALF_OF_ALL_TRANSACTIONS

    def newest_rows(
        self, as_of: datetime, changed_since: tuple[int, datetime] | None
    ) -> Iterator[pa.RecordBatch]:
        """Return the newest valid row per entity; see `MartSnapshot`."""
        return self._rows(self.newest_query(as_of, changed_since))

    def arrived_rows(
        self, as_of: datetime, since: tuple[int, datetime]
    ) -> Iterator[pa.RecordBatch]:
        """Return the newest valid row per entity that has new ones; see `MartSnapshot`."""
        return self._rows(arrived_rows_sql(self._source, as_of, since))

    def next_visible(self, as_of: datetime, since: tuple[int, datetime] | None) -> datetime | None:
        """Return when the next row becomes visible without arriving; see `MartSnapshot`."""
        if self.mart.created_timestamp_column is None:
            return None  # the index shows a row whose time has come
        found = self._table(next_visible_sql(self._source, as_of, since and since[1]))
        instant: datetime | None = found["instant"][0].as_py()
        return instant

    def newest_query(self, as_of: datetime, changed_since: tuple[int, datetime] | None) -> str:
        """Return the SQL that `newest_rows` runs."""
        return newest_rows_sql(self._source, as_of, changed_since)

    def existing(self, as_of: datetime, keys: Sequence[Sequence[object]]) -> set[int]:
        """Return which of `keys` have a valid row; see `MartSnapshot`."""
        found = self._table(existing_sql(self._source, as_of, keys))
        return set(found["position"].to_pylist())

    def pushes_seen(self, schema: str, table: str, since: datetime | None) -> PushesSeen:
        """Return which rows of a raw table of pushes the mart has; see `MartSnapshot`."""
        raw = quote_table(schema, table)
        order = self._table(order_sql(raw))["name"].to_pylist()
        if not order:
            return PushesSeen()
        [seen] = self._table(pushes_seen_sql(self.mart, raw, order[0], since)).to_pylist()
        return PushesSeen(**seen)

    def sample(self, size: int) -> list[dict[str, Any]]:
        """Return the join keys of up to `size` entities, others at each call."""
        rows: list[dict[str, Any]] = self._table(sample_sql(self._source, size)).to_pylist()
        return rows

    def batches(self, sql: str) -> Iterator[pa.RecordBatch]:
        """Return the result of `sql` bit by bit; the server sends as fast as we read."""
        with self._connection.cursor() as cursor, _failures(self.mart):
            cursor.adbc_statement.set_options(
                **{"adbc.postgresql.batch_size_hint_bytes": str(_BATCH_BYTES)}
            )
            cursor.execute(sql)
            yield from cursor.fetch_record_batch()

    def cancel(self) -> None:
        """Stop what the server is doing for us."""
        self._connection.adbc_cancel()

    def _rows(self, query: str) -> Iterator[pa.RecordBatch]:
        keys, others = self.mart.join_keys, (EVENT_TIME, CHANGED)
        names = [*keys, *others, *(feature.name for feature in self.mart.features)]
        columns = [AnswerColumn(name, f"feature mart {self.mart.name}: {name}") for name in names]
        return refuse_impossible_times(self.batches(query), columns)

    def _table(self, sql: str, *, use_copy: bool = True) -> pa.Table:
        """Return the whole result of `sql`; `use_copy` False for what is not a query."""
        with self._connection.cursor() as cursor, _failures(self.mart):
            cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": str(use_copy).lower()})
            return in_thread(lambda: _whole(cursor, sql), cursor.adbc_cancel)

    def _describe(self) -> tuple[PostgresTable, Mapping[str, str]]:
        """Return the table, and what a comparison with its earlier rows rests on."""
        mart = self.mart
        found = self._table(_describe_sql(mart)).to_pylist()
        if not found:
            raise missing_table(mart)
        row = found[0]
        self._check_columns()
        footed = self._table(footing_sql(quote_table(mart.schema, mart.alias), mart.columns))
        [foot] = footed.to_pylist()
        indexes = self._indexes()
        self.hindrance, self.all_changed = indexes.hindrance(mart), indexes.all_changed(mart)
        times = {mart.timestamp_field, mart.created_timestamp_column}
        table = PostgresTable(
            mart=mart,
            is_tracked=foot["is_tracked"],
            horizon=row["horizon"],
            key_order=indexes.key_order(mart.join_keys, mart.timestamp_field) or (),
            has_ties=not indexes.is_unique({*mart.join_keys, *filter(None, times)}),
            has_versions=not indexes.is_unique({*mart.join_keys, mart.timestamp_field}),
            rows=row["rows"],
            history=self._history(row["rows"]),
        )
        return table, footing(foot) if table.is_tracked else {}

    def _indexes(self) -> TableIndexes:
        found = self._table(indexes_sql(quote_table(self.mart.schema, self.mart.alias)))
        return TableIndexes([(row["is_unique"], row["columns"]) for row in found.to_pylist()])

    def _check_columns(self) -> None:
        """Raise unless the table has every column, and each can be what dbt's YAML says."""
        mart = self.mart
        found = self._table(_types_sql(mart)).to_pylist()
        types = {row["name"]: JoinColumn(**row) for row in found}
        for name in mart.columns:
            if name not in types:
                raise missing_column(mart, name, list(types))
        for column in [*(mart.columns[key] for key in mart.join_keys), *mart.features]:
            try:
                exported("", types[column.name], FEAST_TYPES[column.dtype])
            except RunnerError as err:
                kind = "join key" if column.name in mart.join_keys else "feature"
                what = f"{kind} {err.message.removeprefix('feature ')}"
                raise RunnerError(f"{mart.file}: {mart.name}: {what}", hint=err.hint) from err

    def _history(self, rows: float) -> float | None:
        mart = self.mart
        if rows <= 0 or not mart.join_keys:
            return None
        keys = ", ".join(map(quote, mart.join_keys))
        table = quote_table(mart.schema, mart.alias)
        sql = f"explain (format json) select distinct {keys} from {table}"
        plan = self._table(sql, use_copy=False)
        entities: float = json.loads(plan.column(0)[0].as_py())[0]["Plan"]["Plan Rows"]
        return rows / max(entities, 1)


def _whole(cursor: dbapi.Cursor, sql: str) -> pa.Table:
    cursor.execute(sql)
    return cursor.fetch_arrow_table()


@contextmanager
def _failures(mart: FeatureMart) -> Iterator[None]:
    try:
        yield
    except (AdbcError, OSError) as err:  # the latter while rows arrive
        if refused := refusal_in(err):
            raise refused from err
        reason = " ".join(str(err).partition("Query")[0].split())
        raise RunnerError(
            f"{mart.file}: {mart.name}: PostgreSQL refuses the query: {reason}",
            hint=f"run `dbt build --select +{mart.name}`, and `runner status` to see the server",
        ) from err


@contextmanager
def open_postgres_mart(address: PostgresAddress, mart: FeatureMart) -> Iterator[PostgresMart]:
    """Look at `mart` through a read-only, repeatable-read transaction.

    Raises
    ------
    RunnerError
        If its table does not exist.
    """
    table = quote_table(mart.schema, mart.alias)
    with dbapi.connect(make_conninfo("", **address.conninfo), autocommit=True) as connection:
        with connection.cursor() as cursor, _failures(mart):
            found = in_thread(partial(_whole, cursor, is_lockable_sql(table)), cursor.adbc_cancel)
            lock = [lock_sql(table)] if found.num_rows and found.column(0)[0].as_py() else []
            cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})
            begin = "begin isolation level repeatable read read only"
            for statement in (begin, *lock, settings_sql()):
                in_thread(partial(cursor.execute, statement), cursor.adbc_cancel)
        yield PostgresMart(connection, mart)


def _describe_sql(mart: FeatureMart) -> str:
    table = text_postgres(quote_table(mart.schema, mart.alias))
    return f"""
        select
            class.reltuples::float8 as rows,
            pg_snapshot_xmin(pg_current_snapshot())::text::bigint as horizon
        from pg_class as class
        where class.oid = to_regclass({table})
    """


def _types_sql(mart: FeatureMart) -> str:
    table = text_postgres(quote_table(mart.schema, mart.alias))
    return f"""
        select
            attribute.attname::text as name,
            base.typname::text as type,
            kind.typelem <> 0 and kind.typlen = -1 as is_array
        from pg_attribute as attribute
        inner join pg_type as kind on kind.oid = attribute.atttypid
        inner join pg_type as base
            on base.oid = case
                when kind.typelem <> 0 and kind.typlen = -1 then kind.typelem
                when kind.typbasetype <> 0 then kind.typbasetype
                else kind.oid
            end
        where attribute.attrelid = to_regclass({table})
          and attribute.attnum > 0 and not attribute.attisdropped
    """

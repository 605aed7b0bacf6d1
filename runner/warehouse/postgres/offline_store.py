"""Feast's offline store for PostgreSQL with a point-in-time join that is right and fast.

Select it in the feature_store yaml:

    offline_store:
      type: runner.warehouse.postgres.offline_store.PointInTimePostgreSQLOfflineStore

The exact rules stand in docs/point-in-time.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Literal

import pandas as pd
import psycopg
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres import (
    PostgreSQLOfflineStore,
    PostgreSQLOfflineStoreConfig,
)
from feast.repo_config import RepoConfig
from psycopg import sql
from pydantic import model_validator

from runner.errors import RunnerError
from runner.settings import load_settings
from runner.sql import quote
from runner.warehouse.join.arrow_order import BLOCK_ROWS
from runner.warehouse.join.arrow_retrieval_job import FeastAnswer, TimeRange
from runner.warehouse.join.feast_protocols import FeastSource
from runner.warehouse.join.join_parts import EntityRows, JoinColumn, JoinSpine, JoinView
from runner.warehouse.join.join_request import Request
from runner.warehouse.join.packing import Packs, after
from runner.warehouse.join.point_in_time_store import PointInTimeStore
from runner.warehouse.join.store_request import PulledColumns, aware
from runner.warehouse.postgres.collected import open_postgres_collected
from runner.warehouse.postgres.entity_rows import frame_rows, query_rows, range_query
from runner.warehouse.postgres.join_plan import describe, planning, source_of, with_index
from runner.warehouse.postgres.join_sql import packed_features, point_in_time_query
from runner.warehouse.postgres.pull import all_query, latest_query
from runner.warehouse.postgres.retrieval_job import PointInTimeRetrievalJob, spine_limits
from runner.warehouse.postgres.session import conninfo
from runner.warehouse.postgres.types import as_type_of
from runner.warehouse.pushed_frame import Opened, PushedFrameStore

_VARIABLES = {
    "host": "PGHOST",
    "port": "PGPORT",
    "database": "PGDATABASE",
    "user": "PGUSER",
    "password": "PGPASSWORD",
}


class PointInTimePostgreSQLOfflineStoreConfig(PostgreSQLOfflineStoreConfig):  # type: ignore[misc]
    """Feast's PostgreSQL configuration; the connection comes from PGHOST, PGPORT … by default.

    Where those are unset, `profiles/<target>.env` of the project is read into the environment, so
    that a registry address without host and password works in the same process. Feast's
    `entity_select_mode` has no effect: a query is embedded, a DataFrame goes to a temporary table.

    Attributes
    ----------
    knowledge_time
        True: rows created after the spine row's timestamp are invisible.
    work_mem
        Memory for each sort of a retrieval, in PostgreSQL's own notation.
    """

    type: Literal[
        "runner.warehouse.postgres.offline_store.PointInTimePostgreSQLOfflineStore",
        # Version 0.1 wrote this one.
        "runner.features.postgres.offline_store.PointInTimePostgreSQLOfflineStore",
    ] = "runner.warehouse.postgres.offline_store.PointInTimePostgreSQLOfflineStore"
    sslmode: str | None = "prefer"
    knowledge_time: bool = True
    work_mem: str = "64MB"

    @model_validator(mode="before")
    @classmethod
    def _fill_from_environment(cls, values: Mapping[str, object]) -> dict[str, object]:
        _require_local()
        missing = {key: name for key, name in _VARIABLES.items() if key not in values}
        if any(name not in os.environ for name in missing.values()):
            _load_project_environment()
        found = {key: os.environ[name] for key, name in missing.items() if name in os.environ}
        if "PGSSLMODE" in os.environ:
            found["sslmode"] = os.environ["PGSSLMODE"]
        return {**found, **values}


def _require_local() -> None:
    """Raise RunnerError where the environment is the cloud: a bare `feast` reads the local file."""
    if os.environ.get("APP_ENV") == "cloud":
        raise RunnerError(
            "APP_ENV=cloud, but Feast was given the configuration of the local target; run "
            "`feast -f profiles/feature_store.cloud.yaml -c feature_repo …`, or unset APP_ENV",
            hint='`eval "$(runner env --target cloud)"` gives Feast the connections',
        )


def _load_project_environment() -> None:
    try:
        load_settings().export()
    except RunnerError:
        return  # outside a project; pydantic says which fields are missing


class PointInTimePostgreSQLOfflineStore(PushedFrameStore, PointInTimeStore, PostgreSQLOfflineStore):  # type: ignore[misc]
    """Point-in-time retrieval inside PostgreSQL; see the module's documentation."""

    @classmethod
    def raw_table_opener(cls, config: RepoConfig) -> Opened:
        """Return what opens a raw table in the database."""
        return partial(open_postgres_collected, conninfo(config.offline_store))

    @classmethod
    @contextmanager
    def dialect(cls, config: RepoConfig) -> Iterator[PostgresDialect]:
        """Connect in order to ask about columns and indexes; nothing is read or written."""
        with planning(config.offline_store) as connection:
            yield PostgresDialect(config, connection)


class PostgresDialect:
    """PostgreSQL's side of `join.point_in_time_store`; see `JoinDialect` for what each returns."""

    def __init__(self, config: RepoConfig, connection: psycopg.Connection) -> None:
        self._config = config
        self._connection = connection

    def source_of(self, data_source: FeastSource) -> str:
        """Return what follows `from`."""
        return source_of(data_source)

    def describe(self, query: str, what: str) -> tuple[JoinColumn, ...]:
        """Return the columns of `query`."""
        return describe(self._connection, query, what)

    def planned(self, view: JoinView) -> JoinView:
        """Return the view of a table with what its indexes allow."""
        return with_index(self._connection, view)

    def query_rows(self, query: str, views: Sequence[JoinView]) -> EntityRows:
        """Return the spine that `query` selects."""
        return query_rows(self._connection, query, views)

    def frame_rows(self, frame: pd.DataFrame, views: Sequence[JoinView]) -> EntityRows:
        """Return the spine in `frame`."""
        return frame_rows(frame, views)

    def range_query(self, start: datetime, end: datetime, views: Sequence[JoinView]) -> str:
        """Return the SQL of the spine that the views have in that time."""
        return range_query(self._connection, start, end, views)

    def join_query(self, rows: EntityRows) -> tuple[str, str | None, Packs | None]:
        """Return the join's SQL, its column of row numbers, and what it packs together."""
        query = point_in_time_query(rows.spine, rows.views, rows.returned, BLOCK_ROWS)
        packs = packed_features(rows.views, rows.returned)
        return query, rows.spine.row, after(len(rows.returned), packs) if packs else None

    def window(self, timestamp: JoinColumn, start: datetime | None, end: datetime | None) -> str:
        """Return the condition that `timestamp` is from `start` to `end`."""
        stamp = f"source.{quote(timestamp.name)}"
        limits = []
        for comparison, limit in ((">=", start), ("<=", end)):
            if limit is not None:
                # COPY takes no parameters: psycopg quotes the value.
                text = sql.Literal(aware(limit)).as_string(self._connection)
                instant = as_type_of(f"{text}::timestamptz", timestamp.type)
                limits.append(f"{stamp} {comparison} {instant}")
        return " and ".join(limits) or "true"

    def latest_query(self, source: str, pulled: PulledColumns, window: str) -> str:
        """Return the SQL for the newest row per key."""
        return latest_query(source, *pulled, window)

    def all_query(self, source: str, columns: Sequence[JoinColumn], window: str) -> str:
        """Return the SQL for every row."""
        return all_query(source, columns, window)

    def with_dummy_key(self, query: str) -> str:
        """Return `query` with the key of views without entities."""
        return f"select *, '' as {quote(DUMMY_ENTITY_ID)} from (\n{query}\n) as latest"

    def job(self, request: Request, _what: str, answer: FeastAnswer) -> PointInTimeRetrievalJob:
        """Return the job that runs `request`."""
        return PointInTimeRetrievalJob(request, self._config, answer)

    def spine_limits(self, spine: JoinSpine) -> TimeRange.Limits:
        """Return what asks for the earliest and the latest time of `spine`."""
        return partial(spine_limits, self._config, spine)

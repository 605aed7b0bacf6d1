"""Feast's offline store for PostgreSQL with a point-in-time join that is right and fast.

Select it in the feature_store yaml:

    offline_store:
      type: runner.warehouse.postgres.offline_store.PointInTimePostgreSQLOfflineStore

The exact rules stand in docs/point-in-time.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any, Literal

import pandas as pd
import psycopg
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID, FeatureView
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres import (
    PostgreSQLOfflineStore,
    PostgreSQLOfflineStoreConfig,
)
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import RepoConfig
from psycopg import sql
from pydantic import model_validator

from runner.errors import RunnerError
from runner.settings import load_settings
from runner.sql import quote
from runner.warehouse.join.arrow_order import BLOCK_ROWS
from runner.warehouse.join.arrow_retrieval_job import (
    Request,
    TimeRange,
    answer_columns,
    pulled_columns,
)
from runner.warehouse.join.join_parts import EntityRows, JoinColumn, JoinView
from runner.warehouse.join.packing import after
from runner.warehouse.join.store_request import (
    all_columns,
    aware,
    newest_columns,
    range_without_entities,
    requested_features,
)
from runner.warehouse.join.time_limits import AnswerColumn
from runner.warehouse.postgres.entity_rows import frame_rows, query_rows, range_rows
from runner.warehouse.postgres.join_plan import describe, plan_views, source_columns, source_of
from runner.warehouse.postgres.join_sql import (
    all_query,
    latest_query,
    packed_features,
    point_in_time_query,
)
from runner.warehouse.postgres.retrieval_job import PointInTimeRetrievalJob, spine_limits
from runner.warehouse.postgres.session import conninfo, opening
from runner.warehouse.postgres.types import as_type_of

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
    def _fill_from_environment(cls, values: Any) -> Any:
        missing = {key: name for key, name in _VARIABLES.items() if key not in values}
        if any(name not in os.environ for name in missing.values()):
            _load_project_environment()
        found = {key: os.environ[name] for key, name in missing.items() if name in os.environ}
        if "PGSSLMODE" in os.environ:
            found["sslmode"] = os.environ["PGSSLMODE"]
        return {**found, **values}


def _load_project_environment() -> None:
    try:
        load_settings().export()
    except RunnerError:
        return  # outside a project; pydantic says which fields are missing


class PointInTimePostgreSQLOfflineStore(PostgreSQLOfflineStore):  # type: ignore[misc]
    """Point-in-time retrieval inside PostgreSQL; see the module's documentation."""

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        **kwargs: Any,
    ) -> PointInTimeRetrievalJob:
        """Return the job that joins `feature_refs` to `entity_df` as of each row's timestamp.

        `filter_by_created_timestamp=True` demands knowledge time where the configuration has
        switched it off.
        """
        requested = requested_features(feature_refs, feature_views, registry, project)
        store = config.offline_store
        with _describing(config) as connection:
            views = plan_views(
                connection,
                requested,
                full_feature_names=full_feature_names,
                knowledge_time=store.knowledge_time or filter_by_created_timestamp,
            )
            rows = _entity_rows(connection, entity_df, views, kwargs)
            query = point_in_time_query(rows.spine, rows.views, rows.returned, BLOCK_ROWS)
            if rows.upload is None:
                describe(connection, query, "the point-in-time query")
        packs = packed_features(rows.views, rows.returned)
        return PointInTimeRetrievalJob(
            Request(
                query,
                answer_columns(rows),
                rows.spine.row,
                rows.upload,
                rows.beside,
                after(len(rows.returned), packs) if packs else None,
            ),
            config,
            full_feature_names=full_feature_names,
            on_demand_feature_views=OnDemandFeatureView.get_requested_odfvs(
                feature_refs, project, registry
            ),
            metadata=TimeRange(rows, feature_refs, partial(spine_limits, config)),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> PointInTimeRetrievalJob:
        """Return the job that reads the newest row per key from `start_date` to `end_date`.

        The newest by the join's own rule: event timestamp, created timestamp, tie-break.
        """
        source = source_of(data_source)
        with _describing(config) as connection:
            columns = source_columns(connection, data_source, source)
            pulled = newest_columns(
                columns,
                join_key_columns,
                feature_name_columns,
                timestamp_field,
                created_timestamp_column,
            )
            window = _window(connection, pulled.timestamps[0], start_date, end_date)
        query = latest_query(source, *pulled, window or "true")
        answer = pulled_columns(data_source.name, chain(*pulled))
        if not pulled.keys:
            query = f"select *, '' as {quote(DUMMY_ENTITY_ID)} from (\n{query}\n) as latest"
            answer = (*answer, AnswerColumn(DUMMY_ENTITY_ID, ""))
        return PointInTimeRetrievalJob(Request(query, answer), config)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> PointInTimeRetrievalJob:
        """Return the job that reads every row from `start_date` to `end_date`, both included."""
        source = source_of(data_source)
        with _describing(config) as connection:
            columns = source_columns(connection, data_source, source)
            chosen = all_columns(
                columns,
                join_key_columns,
                feature_name_columns,
                timestamp_field,
                created_timestamp_column,
            )
            window = _window(connection, columns.at(timestamp_field), start_date, end_date)
        request = Request(
            all_query(source, chosen, window), pulled_columns(data_source.name, chosen)
        )
        return PointInTimeRetrievalJob(request, config)


def _entity_rows(
    connection: psycopg.Connection,
    entity_df: pd.DataFrame | str | None,
    views: list[JoinView],
    options: dict[str, Any],
) -> EntityRows:
    if isinstance(entity_df, str):
        return query_rows(connection, entity_df, views)
    if isinstance(entity_df, pd.DataFrame):
        return frame_rows(entity_df, views)
    return range_rows(connection, *range_without_entities(entity_df, views, options), views)


def _window(
    connection: psycopg.Connection,
    timestamp: JoinColumn,
    start: datetime | None,
    end: datetime | None,
) -> str | None:
    stamp = f"source.{quote(timestamp.name)}"
    limits = []
    for comparison, limit in ((">=", start), ("<=", end)):
        if limit is not None:
            # COPY takes no parameters: psycopg quotes the value.
            instant = f"{sql.Literal(aware(limit)).as_string(connection)}::timestamptz"
            limits.append(f"{stamp} {comparison} {as_type_of(instant, timestamp.type)}")
    return " and ".join(limits) or None


@contextmanager
def _describing(config: RepoConfig) -> Iterator[psycopg.Connection]:
    """Connect in order to ask about columns and indexes; nothing is read or written."""
    store = config.offline_store
    try:
        connection = psycopg.connect(conninfo(store))
    except psycopg.OperationalError as err:
        raise RunnerError(
            f"cannot reach PostgreSQL at {store.host}:{store.port}: {err}",
            hint="run `runner up`, or set PGHOST and PGPORT to a server that is running",
        ) from err
    with connection:
        for statement in opening(store):
            connection.execute(statement.encode())
        yield connection

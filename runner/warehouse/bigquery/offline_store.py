"""Feast's offline store for BigQuery with the point-in-time join of docs/point-in-time.md.

Select it in the feature_store yaml:

    offline_store:
      type: runner.warehouse.bigquery.offline_store.PointInTimeBigQueryOfflineStore
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any, Literal

import pandas as pd
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID, FeatureView
from feast.infra.offline_stores.bigquery import BigQueryOfflineStore, BigQueryOfflineStoreConfig
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import RepoConfig
from pydantic import PositiveInt, model_validator

from runner.sql import quote_bigquery as quote
from runner.warehouse.bigquery.join_plan import (
    frame_rows,
    literal,
    plan_views,
    query_rows,
    range_rows,
    source_columns,
    source_of,
)
from runner.warehouse.bigquery.merge import point_in_time_query
from runner.warehouse.bigquery.pull import all_query, latest_query
from runner.warehouse.bigquery.retrieval_job import PointInTimeBigQueryRetrievalJob, spine_limits
from runner.warehouse.bigquery.session import BigQuerySession
from runner.warehouse.bigquery.types import utc
from runner.warehouse.join.arrow_retrieval_job import (
    Request,
    TimeRange,
    answer_columns,
    pulled_columns,
)
from runner.warehouse.join.join_parts import EntityRows, JoinColumn, JoinView
from runner.warehouse.join.store_request import (
    all_columns,
    aware,
    newest_columns,
    range_without_entities,
    requested_features,
)
from runner.warehouse.join.time_limits import AnswerColumn

_VARIABLES = {
    "project_id": "GOOGLE_CLOUD_PROJECT",
    "location": "BIGQUERY_LOCATION",
    "maximum_bytes_billed": "BIGQUERY_MAXIMUM_BYTES_BILLED",
}


class PointInTimeBigQueryOfflineStoreConfig(BigQueryOfflineStoreConfig):  # type: ignore[misc]
    """Feast's BigQuery configuration; project and location come from the environment by default.

    Attributes
    ----------
    knowledge_time
        True: rows created after the spine row's timestamp are invisible.
    maximum_bytes_billed
        A query that would be billed for more fails before it runs; None: no limit.
    """

    type: Literal[
        "runner.warehouse.bigquery.offline_store.PointInTimeBigQueryOfflineStore",
        # Version 0.1 wrote this one.
        "runner.features.bigquery.offline_store.PointInTimeBigQueryOfflineStore",
    ] = "runner.warehouse.bigquery.offline_store.PointInTimeBigQueryOfflineStore"
    knowledge_time: bool = True
    maximum_bytes_billed: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_from_environment(cls, values: Any) -> Any:
        found = {key: os.environ.get(name) for key, name in _VARIABLES.items()}
        return {**{key: value for key, value in found.items() if value}, **values}


class PointInTimeBigQueryOfflineStore(BigQueryOfflineStore):  # type: ignore[misc]
    """Point-in-time retrieval inside BigQuery; see the module's documentation."""

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
    ) -> PointInTimeBigQueryRetrievalJob:
        """Return the job that joins `feature_refs` to `entity_df` as of each row's timestamp.

        `filter_by_created_timestamp=True` demands knowledge time where the configuration has
        switched it off.
        """
        store = config.offline_store
        session = BigQuerySession(store)
        views = plan_views(
            session,
            requested_features(feature_refs, feature_views, registry, project),
            full_feature_names=full_feature_names,
            knowledge_time=store.knowledge_time or filter_by_created_timestamp,
        )
        rows = _entity_rows(session, entity_df, views, kwargs)
        query = point_in_time_query(rows.spine, rows.views, rows.returned)
        if rows.upload is None:
            session.describe(query, "the point-in-time query")
        row = rows.spine.row if rows.spine.is_numbered else None
        return PointInTimeBigQueryRetrievalJob(
            Request(query, answer_columns(rows), row, rows.upload, rows.beside),
            session,
            f"the point-in-time join of {', '.join(view.name for view in views)}",
            full_feature_names=full_feature_names,
            on_demand_feature_views=OnDemandFeatureView.get_requested_odfvs(
                feature_refs, project, registry
            ),
            metadata=TimeRange(rows, feature_refs, partial(spine_limits, session)),
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
    ) -> PointInTimeBigQueryRetrievalJob:
        """Return the job that reads the newest row per key from `start_date` to `end_date`.

        The newest by the join's own rule: event timestamp, created timestamp, tie-break.
        """
        session = BigQuerySession(config.offline_store)
        source = source_of(data_source)
        columns = source_columns(session, data_source, source)
        pulled = newest_columns(
            columns,
            join_key_columns,
            feature_name_columns,
            timestamp_field,
            created_timestamp_column,
        )
        window = _window(pulled.timestamps[0], start_date, end_date)
        query = latest_query(source, *pulled, window)
        answer = pulled_columns(data_source.name, chain(*pulled))
        if not pulled.keys:
            query = f"select *, '' as {quote(DUMMY_ENTITY_ID)} from (\n{query}\n)"
            answer = (*answer, AnswerColumn(DUMMY_ENTITY_ID, ""))
        what = f"the newest rows of data source {data_source.name}"
        return PointInTimeBigQueryRetrievalJob(Request(query, answer), session, what)

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
    ) -> PointInTimeBigQueryRetrievalJob:
        """Return the job that reads every row from `start_date` to `end_date`, both included."""
        session = BigQuerySession(config.offline_store)
        source = source_of(data_source)
        columns = source_columns(session, data_source, source)
        chosen = all_columns(
            columns,
            join_key_columns,
            feature_name_columns,
            timestamp_field,
            created_timestamp_column,
        )
        window = _window(columns.at(timestamp_field), start_date, end_date)
        request = Request(
            all_query(source, chosen, window), pulled_columns(data_source.name, chosen)
        )
        what = f"the rows of data source {data_source.name}"
        return PointInTimeBigQueryRetrievalJob(request, session, what)


def _entity_rows(
    session: BigQuerySession,
    entity_df: pd.DataFrame | str | None,
    views: Sequence[JoinView],
    options: dict[str, Any],
) -> EntityRows:
    if isinstance(entity_df, str):
        return query_rows(session, entity_df, views)
    if isinstance(entity_df, pd.DataFrame):
        return frame_rows(session, entity_df, views)
    return range_rows(session, *range_without_entities(entity_df, views, options), views)


def _window(timestamp: JoinColumn, start: datetime | None, end: datetime | None) -> str:
    stamp = utc(f"source.{quote(timestamp.name)}", timestamp.type)
    limits = [
        f"{stamp} {comparison} {literal(aware(limit))}"
        for comparison, limit in ((">=", start), ("<=", end))
        if limit is not None
    ]
    return " and ".join(limits) or "true"

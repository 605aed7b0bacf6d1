"""The offline store of both warehouses; what differs is in the `JoinDialect` of each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from itertools import chain
from typing import Protocol

import pandas as pd
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID, FeatureView
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import RepoConfig

from runner.warehouse.join.arrow_retrieval_job import (
    ArrowRetrievalJob,
    FeastAnswer,
    TimeRange,
)
from runner.warehouse.join.feast_protocols import FeastSource, FeastView
from runner.warehouse.join.join_parts import EntityRows, JoinColumn, JoinSpine, JoinView
from runner.warehouse.join.join_request import Request, answer_columns, pulled_columns
from runner.warehouse.join.packing import Packs
from runner.warehouse.join.store_request import (
    PulledColumns,
    all_columns,
    newest_columns,
    range_without_entities,
    requested_features,
)
from runner.warehouse.join.time_limits import AnswerColumn
from runner.warehouse.join.view_plan import SourceColumns, view_of


class JoinDialect(Protocol):
    """A warehouse that is asked about columns, and writes the SQL of joins and pulls."""

    def source_of(self, data_source: FeastSource) -> str:
        """Return what follows `from`: a table's name, or a query in parentheses."""

    def describe(self, query: str, what: str) -> tuple[JoinColumn, ...]:
        """Return the columns of `query`; nothing is read. `what` is what errors call it."""

    def planned(self, view: JoinView) -> JoinView:
        """Return a view of a table with what the warehouse knows of it."""

    def query_rows(self, query: str, views: Sequence[JoinView]) -> EntityRows:
        """Return the spine that the SQL `query` selects."""

    def frame_rows(self, frame: pd.DataFrame, views: Sequence[JoinView]) -> EntityRows:
        """Return the spine in `frame`: keys and times go up, everything else stays here."""

    def range_query(self, start: datetime, end: datetime, views: Sequence[JoinView]) -> str:
        """Return the SQL of every key and event timestamp that the views have in that time."""

    def join_query(self, rows: EntityRows) -> tuple[str, str | None, Packs | None]:
        """Return the join's SQL, its column of row numbers, and what it packs together."""

    def window(self, timestamp: JoinColumn, start: datetime | None, end: datetime | None) -> str:
        """Return the condition that `timestamp` is from `start` to `end`."""

    def latest_query(self, source: str, pulled: PulledColumns, window: str) -> str:
        """Return the SQL for the newest row per key within `window`."""

    def all_query(self, source: str, columns: Sequence[JoinColumn], window: str) -> str:
        """Return the SQL for `columns` of every row within `window`."""

    def with_dummy_key(self, query: str) -> str:
        """Return `query` with a last column for Feast's entity of views without entities."""

    def job(self, request: Request, what: str, answer: FeastAnswer) -> ArrowRetrievalJob:
        """Return the job that runs `request`; `what` is what errors call it."""

    def spine_limits(self, spine: JoinSpine) -> TimeRange.Limits:
        """Return what asks for the earliest and the latest time of `spine`."""


class PointInTimeStore:
    """Feast's offline store with the point-in-time join of docs/point-in-time.md."""

    @classmethod
    def dialect(cls, config: RepoConfig) -> AbstractContextManager[JoinDialect]:
        """Open the warehouse in order to plan; nothing is read or written."""
        raise NotImplementedError

    @classmethod
    def get_historical_features(
        cls,
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        **kwargs: datetime | None,
    ) -> ArrowRetrievalJob:
        """Return the job that joins `feature_refs` to `entity_df` as of each row's timestamp.

        `filter_by_created_timestamp=True` demands knowledge time where the configuration has
        switched it off.
        """
        requested = requested_features(feature_refs, feature_views, registry, project)
        knowledge_time = config.offline_store.knowledge_time or filter_by_created_timestamp
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        with cls.dialect(config) as dialect:
            views = [
                _planned(dialect, view, names, full_feature_names, knowledge_time)
                for view, names in requested
            ]
            rows = _entity_rows(dialect, entity_df, views, kwargs)
            query, row, packs = dialect.join_query(rows)
            if rows.upload is None:
                dialect.describe(query, "the point-in-time query")
            return dialect.job(
                Request(query, answer_columns(rows), row, rows.upload, rows.beside, packs),
                f"the point-in-time join of {', '.join(view.name for view in views)}",
                FeastAnswer(
                    full_feature_names,
                    on_demand,
                    TimeRange(rows, feature_refs, dialect.spine_limits(rows.spine)),
                ),
            )

    @classmethod
    def pull_latest_from_table_or_query(
        cls,
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> ArrowRetrievalJob:
        """Return the job that reads the newest row per key from `start_date` to `end_date`.

        The newest by the join's own rule: event timestamp, created timestamp, tie-break.
        """
        with cls.dialect(config) as dialect:
            source, columns = _source_columns(dialect, data_source)
            pulled = newest_columns(
                columns,
                join_key_columns,
                feature_name_columns,
                timestamp_field,
                created_timestamp_column,
            )
            window = dialect.window(pulled.timestamps[0], start_date, end_date)
            query = dialect.latest_query(source, pulled, window)
            answer = pulled_columns(data_source.name, chain(*pulled))
            if not pulled.keys:
                query = dialect.with_dummy_key(query)
                answer = (*answer, AnswerColumn(DUMMY_ENTITY_ID, ""))
            what = f"the newest rows of data source {data_source.name}"
            return dialect.job(Request(query, answer), what, FeastAnswer())

    @classmethod
    def pull_all_from_table_or_query(
        cls,
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> ArrowRetrievalJob:
        """Return the job that reads every row from `start_date` to `end_date`, both included."""
        with cls.dialect(config) as dialect:
            source, columns = _source_columns(dialect, data_source)
            chosen = all_columns(
                columns,
                join_key_columns,
                feature_name_columns,
                timestamp_field,
                created_timestamp_column,
            )
            window = dialect.window(columns.at(timestamp_field), start_date, end_date)
            request = Request(
                dialect.all_query(source, chosen, window), pulled_columns(data_source.name, chosen)
            )
            what = f"the rows of data source {data_source.name}"
            return dialect.job(request, what, FeastAnswer())


def _source_columns(dialect: JoinDialect, data_source: FeastSource) -> tuple[str, SourceColumns]:
    """Return what follows `from` for a data source, and its columns."""
    source = dialect.source_of(data_source)
    what = f"data source {data_source.name}"
    described = dialect.describe(f"select * from {source} as source", what)
    return source, SourceColumns(data_source, described)


def _planned(
    dialect: JoinDialect,
    view: FeastView,
    names: Sequence[str],
    full_feature_names: bool,
    knowledge_time: bool,
) -> JoinView:
    source, columns = _source_columns(dialect, view.batch_source)
    planned = view_of(
        view,
        names,
        source,
        columns,
        full_feature_names=full_feature_names,
        knowledge_time=knowledge_time,
    )
    return planned if source.startswith("(") else dialect.planned(planned)


def _entity_rows(
    dialect: JoinDialect,
    entity_df: pd.DataFrame | str | None,
    views: Sequence[JoinView],
    limits: dict[str, datetime | None],
) -> EntityRows:
    if isinstance(entity_df, str):
        return dialect.query_rows(entity_df, views)
    if isinstance(entity_df, pd.DataFrame):
        return dialect.frame_rows(entity_df, views)
    start, end = range_without_entities(entity_df, views, limits)
    return dialect.query_rows(dialect.range_query(start, end, views), views)

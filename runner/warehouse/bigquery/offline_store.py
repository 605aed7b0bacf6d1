"""Feast's offline store for BigQuery with the point-in-time join of docs/point-in-time.md.

Select it in the feature_store yaml:

    offline_store:
      type: runner.warehouse.bigquery.offline_store.PointInTimeBigQueryOfflineStore
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Literal

import pandas as pd
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.offline_stores.bigquery import BigQueryOfflineStore, BigQueryOfflineStoreConfig
from feast.repo_config import RepoConfig
from pydantic import PositiveInt, model_validator

from runner.sql import quote_bigquery as quote
from runner.warehouse.bigquery.collected import open_bigquery_collected
from runner.warehouse.bigquery.entity_rows import frame_rows, query_rows, range_query
from runner.warehouse.bigquery.join_plan import source_of
from runner.warehouse.bigquery.join_sql import point_in_time_query
from runner.warehouse.bigquery.pull import all_query, latest_query
from runner.warehouse.bigquery.retrieval_job import PointInTimeBigQueryRetrievalJob, spine_limits
from runner.warehouse.bigquery.session import BigQuerySession
from runner.warehouse.bigquery.types import literal, utc
from runner.warehouse.join.arrow_retrieval_job import FeastAnswer, TimeRange
from runner.warehouse.join.feast_protocols import FeastSource
from runner.warehouse.join.join_parts import EntityRows, JoinColumn, JoinSpine, JoinView
from runner.warehouse.join.join_request import Request
from runner.warehouse.join.packing import Packs
from runner.warehouse.join.point_in_time_store import PointInTimeStore
from runner.warehouse.join.store_request import PulledColumns, aware
from runner.warehouse.pushed_frame import Opened, PushedFrameStore

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
    def _fill_from_environment(cls, values: Mapping[str, object]) -> dict[str, object]:
        found = {key: os.environ.get(name) for key, name in _VARIABLES.items()}
        return {**{key: value for key, value in found.items() if value}, **values}


class PointInTimeBigQueryOfflineStore(PushedFrameStore, PointInTimeStore, BigQueryOfflineStore):  # type: ignore[misc]
    """Point-in-time retrieval inside BigQuery; see the module's documentation."""

    @classmethod
    def raw_table_opener(cls, config: RepoConfig) -> Opened:
        """Return what opens a raw table in the project."""
        store = config.offline_store
        return partial(open_bigquery_collected, store.project_id, store.location)

    @classmethod
    @contextmanager
    def dialect(cls, config: RepoConfig) -> Iterator[BigQueryDialect]:
        """Make a client that asks about columns by dry runs, which cost nothing."""
        yield BigQueryDialect(BigQuerySession(config.offline_store))


class BigQueryDialect:
    """BigQuery's side of `join.point_in_time_store`; see `JoinDialect` for what each returns."""

    def __init__(self, session: BigQuerySession) -> None:
        self._session = session

    def source_of(self, data_source: FeastSource) -> str:
        """Return what follows `from`."""
        return source_of(data_source)

    def describe(self, query: str, what: str) -> tuple[JoinColumn, ...]:
        """Return the columns of `query`."""
        return self._session.describe(query, what)

    def planned(self, view: JoinView) -> JoinView:
        """Return the view as it is: BigQuery has no indexes."""
        return view

    def query_rows(self, query: str, views: Sequence[JoinView]) -> EntityRows:
        """Return the spine that `query` selects."""
        return query_rows(self._session, query, views)

    def frame_rows(self, frame: pd.DataFrame, views: Sequence[JoinView]) -> EntityRows:
        """Return the spine in `frame`."""
        return frame_rows(self._session, frame, views)

    def range_query(self, start: datetime, end: datetime, views: Sequence[JoinView]) -> str:
        """Return the SQL of the spine that the views have in that time."""
        return range_query(start, end, views)

    def join_query(self, rows: EntityRows) -> tuple[str, str | None, Packs | None]:
        """Return the join's SQL and, of a DataFrame, its column of row numbers."""
        query = point_in_time_query(rows.spine, rows.views, rows.returned)
        return query, rows.spine.row if rows.spine.is_numbered else None, None

    def window(self, timestamp: JoinColumn, start: datetime | None, end: datetime | None) -> str:
        """Return the condition that `timestamp` is from `start` to `end`."""
        stamp = utc(f"source.{quote(timestamp.name)}", timestamp.type)
        limits = [
            f"{stamp} {comparison} {literal(aware(limit))}"
            for comparison, limit in ((">=", start), ("<=", end))
            if limit is not None
        ]
        return " and ".join(limits) or "true"

    def latest_query(self, source: str, pulled: PulledColumns, window: str) -> str:
        """Return the SQL for the newest row per key."""
        return latest_query(source, *pulled, window)

    def all_query(self, source: str, columns: Sequence[JoinColumn], window: str) -> str:
        """Return the SQL for every row."""
        return all_query(source, columns, window)

    def with_dummy_key(self, query: str) -> str:
        """Return `query` with the key of views without entities."""
        return f"select *, '' as {quote(DUMMY_ENTITY_ID)} from (\n{query}\n)"

    def job(
        self, request: Request, what: str, answer: FeastAnswer
    ) -> PointInTimeBigQueryRetrievalJob:
        """Return the job that runs `request`."""
        return PointInTimeBigQueryRetrievalJob(request, self._session, what, answer)

    def spine_limits(self, spine: JoinSpine) -> TimeRange.Limits:
        """Return what asks for the earliest and the latest time of `spine`."""
        return partial(spine_limits, self._session, spine)

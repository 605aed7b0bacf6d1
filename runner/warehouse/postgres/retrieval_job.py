"""What the PostgreSQL store returns: a query, and the ways to have its result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres import (
    PostgreSQLRetrievalJob,
)
from feast.repo_config import RepoConfig
from feast.saved_dataset import SavedDatasetStorage

from runner.sql import quote
from runner.warehouse.join.answer import Request
from runner.warehouse.join.arrow_retrieval_job import ArrowRetrievalJob, FeastAnswer
from runner.warehouse.join.join_parts import JoinSpine
from runner.warehouse.postgres.join_answer import in_order
from runner.warehouse.postgres.session import connect
from runner.warehouse.postgres.types import utc


class PointInTimeRetrievalJob(ArrowRetrievalJob, PostgreSQLRetrievalJob):  # type: ignore[misc]
    """A retrieval from PostgreSQL."""

    def __init__(self, request: Request, config: RepoConfig, answer: FeastAnswer) -> None:
        super().__init__(
            request.query,
            config,
            answer.full_feature_names,
            answer.on_demand_feature_views,
            answer.metadata,
        )
        self._request = request

    @contextmanager
    def to_arrow_batches(self, timeout: int | None = None) -> Iterator[pa.RecordBatchReader]:
        """Give a reader over the result, in order, with memory for a block of rows.

        On-demand feature views are not applied; `to_arrow` applies them.
        """
        upload = self._request.upload
        with connect(self.config.offline_store, timeout, writes=upload is not None) as session:
            if upload:
                name, rows = upload
                session.upload(rows, name)
            with session.read(self._request.query) as reader:
                yield in_order(self._request, reader, self._counted(reader))

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        with self.to_arrow_batches(timeout) as reader:
            return reader.read_all()

    def persist(
        self,
        storage: SavedDatasetStorage,
        allow_overwrite: bool | None = False,
        timeout: int | None = None,
    ) -> None:
        """Write the result to the table that `storage` names, batch by batch.

        Raises
        ------
        RunnerError
            If the table exists and `allow_overwrite` is False.
        """
        with (
            self.to_arrow_batches(timeout) as reader,
            connect(self.config.offline_store, timeout, writes=True) as session,
        ):
            table = storage.postgres_options._table  # Feast offers no other way
            session.store(reader, table, replace=bool(allow_overwrite))


def spine_limits(config: RepoConfig, spine: JoinSpine) -> pa.Table:
    """Return the earliest and the latest timestamp of `spine`, null where it is empty."""
    column = next(c for c in spine.columns if c.name == spine.timestamp)
    stamp = utc(quote(column.name), column.type)
    query = f"select min({stamp}) as min, max({stamp}) as max from (\n{spine.query}\n) as given"
    with connect(config.offline_store) as session, session.read(query) as reader:
        return reader.read_all()

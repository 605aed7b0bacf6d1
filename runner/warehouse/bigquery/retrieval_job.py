"""What the BigQuery store returns: a query, and the ways to have its result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pyarrow as pa
from feast.infra.offline_stores.offline_store import RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.saved_dataset import SavedDatasetStorage

from runner.errors import RunnerError
from runner.sql import quote_bigquery as quote
from runner.warehouse.bigquery.session import BigQuerySession
from runner.warehouse.bigquery.types import utc
from runner.warehouse.join.answer import Request, joined
from runner.warehouse.join.arrow_order import in_spine_order
from runner.warehouse.join.arrow_retrieval_job import ArrowRetrievalJob, FeastAnswer
from runner.warehouse.join.join_parts import JoinSpine


class PointInTimeBigQueryRetrievalJob(ArrowRetrievalJob):
    """A retrieval from BigQuery.

    Parameters
    ----------
    what
        What errors call it, such as `the point-in-time join`.
    """

    def __init__(
        self, request: Request, session: BigQuerySession, what: str, answer: FeastAnswer
    ) -> None:
        self._request = request
        self._session = session
        self._what = what
        self._answer = answer

    @property
    def full_feature_names(self) -> bool:
        """Whether features are called `view__feature`."""
        return self._answer.full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """What Feast computes from the result."""
        return self._answer.on_demand_feature_views

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """What was asked for."""
        return self._answer.metadata

    @contextmanager
    def to_arrow_batches(self, timeout: int | None = None) -> Iterator[pa.RecordBatchReader]:
        """Give a reader over the result, in order, with memory for a few batches of rows.

        For an entity DataFrame, whose rows come back in any order, the whole result is in memory.
        On-demand feature views are not applied; `to_arrow` applies them.
        """
        if self._request.row is not None:
            yield self._to_arrow_internal(timeout).to_reader()
            return
        with self._session.stream(self._request.query, self._what, timeout) as reader:
            yield pa.RecordBatchReader.from_batches(reader.schema, self._counted(reader))

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        request = self._request
        with ExitStack() as stack:
            if request.upload:
                name, rows = request.upload
                project, dataset, table_name = name.split(".")
                stack.enter_context(self._session.uploaded(rows, (project, dataset, table_name)))
            table = self._session.read(request.query, self._what, timeout)
        if self.on_progress:
            self.on_progress(table.num_rows)
        return table if request.row is None else _in_order(table, request.row, request.beside)

    def persist(
        self,
        storage: SavedDatasetStorage,
        allow_overwrite: bool | None = False,
        timeout: int | None = None,
    ) -> None:
        """Write the result to the table that `storage` names; the rows stay in BigQuery.

        Raises
        ------
        RunnerError
            If the table exists and `allow_overwrite` is False, or the entities are a DataFrame,
            most of which never leaves this process.
        """
        if self._request.upload:
            raise RunnerError(
                "the result of a retrieval for an entity DataFrame cannot be persisted",
                hint="give the entities as SQL, or write `to_arrow()` with a load job",
            )
        table = storage.bigquery_options.table
        query, replace = self._request.query, bool(allow_overwrite)
        self._session.write(query, table, replace=replace, timeout=timeout)


def spine_limits(session: BigQuerySession, spine: JoinSpine) -> pa.Table:
    """Return the earliest and the latest timestamp of `spine`, null where it is empty."""
    column = next(c for c in spine.columns if c.name == spine.timestamp)
    stamp = utc(quote(column.name), column.type)
    query = f"select min({stamp}) as `min`, max({stamp}) as `max` from (\n{spine.query}\n)"
    return session.read(query, "the spine's time range")


def _in_order(table: pa.Table, row: str, beside: pa.Table | None) -> pa.Table:
    """Return `table` by its column `row`, which is taken off, with `beside` in front."""
    schema = table.schema.remove(table.schema.get_field_index(row))
    batches = in_spine_order(table.to_batches(), row)
    if beside is not None:
        batches = joined(beside, batches)
        schema = pa.schema([*beside.schema, *schema], metadata=schema.metadata)
    return pa.Table.from_batches(list(batches), schema)

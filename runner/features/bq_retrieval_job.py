"""What the BigQuery store returns: a query, and the ways to have its result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import cached_property
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.saved_dataset import SavedDatasetStorage

from runner.errors import RunnerError
from runner.features.arrow_order import in_spine_order
from runner.features.bq_session import Session
from runner.features.bq_types import utc
from runner.features.entity_rows import EntityRows
from runner.features.retrieval_job import Request, joined, to_pandas
from runner.sql import quote_bigquery as quote


class BigQueryTimeRange(RetrievalMetadata):  # type: ignore[misc]  # Feast is untyped
    """Feast's metadata of a retrieval; the time range is asked for only when somebody reads it."""

    def __init__(self, session: Session, rows: EntityRows, features: list[str]) -> None:
        self.features = features
        self.keys = [name for name in rows.names if name != rows.spine.timestamp]
        self._session = session
        self._rows = rows

    @property
    def min_event_timestamp(self) -> datetime | None:
        """The spine's earliest timestamp; None when it is empty."""
        return self._range["min"]

    @property
    def max_event_timestamp(self) -> datetime | None:
        """The spine's latest timestamp; None when it is empty."""
        return self._range["max"]

    @cached_property
    def _range(self) -> dict[str, datetime | None]:
        spine = self._rows.spine
        if self._rows.beside is not None:
            limits = pc.min_max(self._rows.beside.column(spine.timestamp)).as_py()
        else:
            column = next(c for c in spine.columns if c.name == spine.timestamp)
            stamp = utc(quote(column.name), column.type)
            query = f"select min({stamp}) as `min`, max({stamp}) as `max` from (\n{spine.query}\n)"
            limits = self._session.read(query, "the spine's time range").to_pylist()[0]
        return dict(limits)


class PointInTimeBigQueryRetrievalJob(RetrievalJob):  # type: ignore[misc]  # Feast is untyped
    """A retrieval that runs when its result is asked for, every time anew.

    Parameters
    ----------
    what
        What errors call it, such as `the point-in-time join`.

    Attributes
    ----------
    on_progress
        Called with the number of rows that have arrived since the last call.
    """

    def __init__(
        self,
        request: Request,
        session: Session,
        what: str,
        *,
        full_feature_names: bool = False,
        on_demand_feature_views: list[OnDemandFeatureView] | None = None,
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self._request = request
        self._session = session
        self._what = what
        self._full_feature_names = full_feature_names
        self._on_demand_feature_views = on_demand_feature_views or []
        self._metadata = metadata
        self.on_progress: Callable[[int], None] | None = None

    @property
    def full_feature_names(self) -> bool:
        """Whether features are called `view__feature`."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """What Feast computes from the result."""
        return self._on_demand_feature_views

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """What was asked for."""
        return self._metadata

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

    def _counted(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        for batch in reader:
            if self.on_progress:
                self.on_progress(batch.num_rows)
            yield batch

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

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return to_pandas(self._to_arrow_internal(timeout))

    def to_df(
        self, validation_reference: Any | None = None, timeout: int | None = None
    ) -> pd.DataFrame:
        """Return the result as a DataFrame; integers and booleans have pandas' nullable types."""
        return to_pandas(self.to_arrow(validation_reference, timeout))

    def to_sql(self) -> str:
        """Return the query. An uploaded DataFrame stands in it as a table that is gone."""
        return self._request.query

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


def _in_order(table: pa.Table, row: str, beside: pa.Table | None) -> pa.Table:
    """Return `table` by its column `row`, which is taken off, with `beside` in front."""
    schema = table.schema.remove(table.schema.get_field_index(row))
    batches = in_spine_order(table.to_batches(), row)
    if beside is not None:
        batches = joined(beside, batches)
        schema = pa.schema([*beside.schema, *schema], metadata=schema.metadata)
    return pa.Table.from_batches(list(batches), schema)

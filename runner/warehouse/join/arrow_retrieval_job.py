"""What `get_historical_features` and the pulls return: a query, and the ways to have its result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.saved_dataset import ValidationReference

from runner.warehouse.join.join_parts import EntityRows
from runner.warehouse.join.join_request import Request

# pandas' own integers and booleans have no null: an int64 column with one becomes float64, and
# 2**53 + 1 becomes 2**53. Floats keep NumPy's type; there NULL and NaN are both NaN.
_PANDAS_TYPES = {
    pa.bool_(): pd.BooleanDtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
}


class TimeRange(RetrievalMetadata):  # type: ignore[misc]  # Feast is untyped
    """Feast's metadata of a retrieval; the time range is asked for only when somebody reads it."""

    Limits = Callable[[], pa.Table]

    def __init__(self, rows: EntityRows, features: list[str], limits: Limits) -> None:
        """Take `limits`, which asks the warehouse for the least and greatest time of the spine."""
        self.features = features
        self.keys = [name for name in rows.names if name != rows.spine.timestamp]
        self._rows = rows
        self._limits = limits

    @property
    def min_event_timestamp(self) -> datetime | None:
        """The spine's earliest timestamp; None when it is empty."""
        return self._range[0]

    @property
    def max_event_timestamp(self) -> datetime | None:
        """The spine's latest timestamp; None when it is empty."""
        return self._range[1]

    @cached_property
    def _range(self) -> tuple[datetime | None, datetime | None]:
        spine, beside = self._rows.spine, self._rows.beside
        if beside is not None:
            limits = pc.min_max(beside.column(spine.timestamp)).as_py()
            return limits["min"], limits["max"]
        earliest, latest = self._limits().to_pylist()[0].values()
        return earliest, latest


@dataclass(frozen=True)
class FeastAnswer:
    """What Feast asks of a retrieval job beside its rows."""

    full_feature_names: bool = False
    on_demand_feature_views: list[OnDemandFeatureView] = field(default_factory=list)
    metadata: RetrievalMetadata | None = None


class ArrowRetrievalJob(RetrievalJob):  # type: ignore[misc]  # Feast is untyped
    """A retrieval that runs when its result is asked for, each time again, and comes as Arrow.

    Attributes
    ----------
    on_progress
        Called with the number of rows that have arrived since the last call.
    """

    _request: Request
    on_progress: Callable[[int], None] | None = None

    def _counted(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        for batch in reader:
            if self.on_progress:
                self.on_progress(batch.num_rows)
            yield batch

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return to_pandas(self._to_arrow_internal(timeout))

    def to_df(
        self, validation_reference: ValidationReference | None = None, timeout: int | None = None
    ) -> pd.DataFrame:
        """Return the result as a DataFrame; integers and booleans have pandas' nullable types."""
        return to_pandas(self.to_arrow(validation_reference, timeout))

    def to_sql(self) -> str:
        """Return the query. An uploaded DataFrame is a table in it that no longer exists."""
        return self._request.query


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Return `table` with pandas' nullable integers and booleans."""
    frame: pd.DataFrame = table.to_pandas(types_mapper=_PANDAS_TYPES.get, split_blocks=True)
    return frame

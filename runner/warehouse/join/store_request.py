"""What Feast asks of an offline store, read alike by the one for PostgreSQL and for BigQuery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from feast.errors import InvalidEntityType
from feast.feature_view import FeatureView
from feast.infra.registry.base_registry import BaseRegistry
from feast.utils import (
    _get_requested_feature_views_to_features_dict,
    _get_requested_on_demand_feature_views,
)

from runner.warehouse.join.join_parts import JoinColumn, JoinView
from runner.warehouse.join.view_plan import SourceColumns

_DEFAULT_RANGE = timedelta(days=30)


class PulledColumns(NamedTuple):
    """The columns of a pull; `timestamps` are the event and perhaps the created timestamp."""

    keys: Sequence[JoinColumn]
    features: Sequence[JoinColumn]
    timestamps: Sequence[JoinColumn]


def requested_features(
    references: list[str], views: list[FeatureView], registry: BaseRegistry, project: str
) -> list[tuple[FeatureView, list[str]]]:
    """Return each feature view that is asked for with the names of its features, each once."""
    on_demand = _get_requested_on_demand_feature_views(references, project, registry)
    requested, _ = _get_requested_feature_views_to_features_dict(references, views, on_demand)
    return [(view, list(dict.fromkeys(names))) for view, names in requested.items()]


def range_without_entities(
    entity_df: object, views: Sequence[JoinView], options: Mapping[str, datetime | None]
) -> tuple[datetime, datetime]:
    """Return the first and the last time, UTC, of a retrieval that names no entities.

    Without `start_date` it is as long as the longest ttl, or 30 days.

    Raises
    ------
    InvalidEntityType
        If `entity_df` is something, which is neither SQL nor a DataFrame here.
    """
    if entity_df is not None:
        raise InvalidEntityType(type(entity_df))
    end = options.get("end_date") or datetime.now(tz=UTC)
    longest = max((view.ttl for view in views if view.ttl), default=_DEFAULT_RANGE)
    return aware(options.get("start_date") or end - longest), aware(end)


def newest_columns(
    columns: SourceColumns,
    join_keys: Sequence[str],
    features: Sequence[str],
    timestamp: str,
    created: str | None,
) -> PulledColumns:
    """Return the columns of a pull of the newest rows; no `features` means all there are."""
    timestamps = [columns.at(name) for name in (timestamp, created) if name]
    chosen = [columns.at(name) for name in features]
    if not chosen:
        named = {*join_keys, *(column.name for column in timestamps)}
        chosen = [column for column in columns.all if column.name not in named]
    return PulledColumns([columns.at(name) for name in join_keys], chosen, timestamps)


def all_columns(
    columns: SourceColumns,
    join_keys: Sequence[str],
    features: Sequence[str],
    timestamp: str,
    created: str | None,
) -> Sequence[JoinColumn]:
    """Return the columns of a pull of all rows; no `features` means every column."""
    if not features:
        return columns.all
    names = [*join_keys, *features, timestamp, *([created] if created else [])]
    return [columns.at(name) for name in names]


def aware(time: datetime) -> datetime:
    """Return `time`, which without a zone is UTC, with one."""
    return time if time.tzinfo else time.replace(tzinfo=UTC)

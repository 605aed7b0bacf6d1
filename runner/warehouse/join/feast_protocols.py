"""What we read of Feast's objects: Feast is not typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol


class ValueTypeName(Protocol):
    """A member of Feast's enum `ValueType`, such as `INT64`."""

    @property
    def name(self) -> str:
        """Its name."""


class FeastType(Protocol):
    """The type of a Feast field."""

    def to_value_type(self) -> ValueTypeName:
        """Return its member of `ValueType`."""


class FeastField(Protocol):
    """A feature or an entity's column."""

    name: str
    dtype: FeastType


class FeastSource(Protocol):
    """A data source of either warehouse."""

    name: str
    timestamp_field: str
    created_timestamp_column: str
    field_mapping: Mapping[str, str]


class FeastProjection(Protocol):
    """The names that a feature view has in one retrieval."""

    join_key_map: Mapping[str, str]

    def name_to_use(self) -> str:
        """Return the view's name."""


class FeastView(Protocol):
    """A feature view."""

    name: str
    ttl: timedelta | None
    features: Sequence[FeastField]
    entity_columns: Sequence[FeastField]
    projection: FeastProjection
    batch_source: FeastSource

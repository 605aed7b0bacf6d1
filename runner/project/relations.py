"""Feature marts and spines: what is known of them once dbt's manifest has been found right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from runner.sql import quoted

EVENT_TIMESTAMP = "event_timestamp"


def full_name(view: str, feature: str) -> str:
    """Return a feature's column in training rows and model inputs, as Feast writes it.

    `view` is the role where the view is joined in one.
    """
    return f"{view}__{feature}"


@dataclass(frozen=True)
class MartColumn:
    """A column of a dbt model: its name, type (`int64`, `float64`, `string` …) and description.

    Attributes
    ----------
    pii
        Whether its `meta` has `pii: true`: it is personal data.
    """

    name: str
    dtype: str
    description: str
    pii: bool = False


@dataclass(frozen=True)
class Relation:
    """Where a dbt model is in the warehouse, and what dbt knows of it.

    Attributes
    ----------
    file
        The YAML file that describes it, relative to the project; errors name it.
    entities
        Feast entity name → join key column.
    columns
        Every column by name, in the contract's order.
    compiled_code
        Its SQL as dbt last compiled it; None if dbt only parsed.
    adapter_type
        The warehouse dbt compiled for: `postgres` or `bigquery`.
    selector
        What `dbt build --select` calls it, where that is another name.
    """

    name: str
    database: str
    schema: str
    alias: str
    description: str
    file: str
    owner: str
    tags: tuple[str, ...]
    entities: Mapping[str, str]
    columns: Mapping[str, MartColumn]
    compiled_code: str | None
    adapter_type: str = field(default="postgres", kw_only=True)
    selector: str = field(default="", kw_only=True)

    @property
    def join_keys(self) -> tuple[str, ...]:
        """The join key columns."""
        return tuple(self.entities.values())

    @property
    def path(self) -> str:
        """Its name in the warehouse with database and schema, quoted."""
        return quoted(self.adapter_type, self.database, self.schema, self.alias)


@dataclass(frozen=True)
class FeatureMart(Relation):
    """A dbt model that is one Feast feature view.

    Attributes
    ----------
    ttl
        How long a row stays valid after its timestamp; None: for ever.
    timestamp_field
        The column that says when a row became knowable, in UTC.
    created_timestamp_column
        The column that says when a row was written, in UTC; None: at its timestamp.
    online
        Whether it is copied to the online store.
    compare_every
        How long the online store may follow new rows alone, between two comparisons with every
        entity; None: each run compares.
    """

    ttl: timedelta | None
    timestamp_field: str
    created_timestamp_column: str | None
    online: bool
    compare_every: timedelta | None = None

    @property
    def known_at(self) -> str:
        """The column that says since when a row is known."""
        return self.created_timestamp_column or self.timestamp_field

    @property
    def features(self) -> tuple[MartColumn, ...]:
        """Every column that is neither a join key nor a timestamp of the join."""
        others = {*self.join_keys, self.timestamp_field, self.created_timestamp_column}
        return tuple(column for column in self.columns.values() if column.name not in others)


@dataclass(frozen=True)
class OutcomeOf:
    """What an outcome model adds to the rows that were served: a label of a spine."""

    spine: str
    label: str


@dataclass(frozen=True)
class Spine(Relation):
    """A dbt model of entity keys, `event_timestamp` and labels.

    Attributes
    ----------
    labels
        Label column → label window: how long after `event_timestamp` the label is known.
    roles
        Key column → its entity, where a spine has an entity more than once: `sender` and `receiver`
        of `account`. The others are in `entities`.
    outcome
        Of an outcome model, whose rows were served: where its label comes from.
    """

    labels: Mapping[str, timedelta]
    roles: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    outcome: OutcomeOf | None = field(default=None, kw_only=True)

    @property
    def join_keys(self) -> tuple[str, ...]:
        """The columns that identify a row's entities, those in roles last."""
        return (*super().join_keys, *self.roles)

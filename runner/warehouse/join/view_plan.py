"""What planning a point-in-time join needs of Feast's objects, and what a spine must have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta

from contract.feast_format import DUMMY_KEY
from runner.errors import RunnerError
from runner.warehouse.join.feast_protocols import FeastField, FeastView, NamedSource
from runner.warehouse.join.join_parts import JoinColumn, JoinFeature, JoinView

EVENT_TIMESTAMP = "event_timestamp"


def event_timestamp_of(columns: Sequence[JoinColumn], types: Sequence[str]) -> str:
    """Return the spine's timestamp column: `event_timestamp`, else the only one there is.

    Parameters
    ----------
    types
        The warehouse's types of a time, the best one first.
    """
    times = [column.name for column in columns if column.type in types and not column.is_array]
    if EVENT_TIMESTAMP in times:
        return EVENT_TIMESTAMP
    if len(times) == 1 and all(column.name != EVENT_TIMESTAMP for column in columns):
        return times[0]
    raise RunnerError(
        f"the spine has no timestamp column {EVENT_TIMESTAMP}; "
        f"it has {', '.join(f'{column.name} {column.type}' for column in columns)}",
        hint=f"select the time of each row as a {types[0]} named {EVENT_TIMESTAMP}",
    )


def strip_semicolon(query: str) -> str:
    """Return `query` such that it can stand in parentheses."""
    return query.strip().rstrip(";").rstrip()


class SourceColumns:
    """The columns of a data source, found by the names they have there or in the view."""

    def __init__(self, data_source: NamedSource, described: Iterable[JoinColumn]) -> None:
        self._source = data_source.name
        self._columns = {column.name: column for column in described}
        self._names = {new: old for old, new in data_source.field_mapping.items()}

    @property
    def all(self) -> list[JoinColumn]:
        """Every column of the source."""
        return list(self._columns.values())

    def of(self, name: str) -> JoinColumn:
        """Return the source's column behind the view's field `name`."""
        return self.at(self._names.get(name, name))

    def at(self, name: str) -> JoinColumn:
        """Return the source's column `name`."""
        column = self._columns.get(name) or self._columns.get(self._names.get(name, name))
        if column is None:
            raise RunnerError(
                f"data source {self._source} has no column {name}; "
                f"it has {', '.join(self._columns)}",
                hint="run `dbt build`, then `feast -c feature_repo apply`, so that both agree",
            )
        return column


def join_keys(view: FeastView, columns: SourceColumns) -> Iterable[tuple[str, JoinColumn]]:
    """Return the view's pairs (name of the key in the spine, source column)."""
    for entity in view.entity_columns:
        if entity.name != DUMMY_KEY:
            spine_key = view.projection.join_key_map.get(entity.name, entity.name)
            yield spine_key, columns.of(entity.name)


def view_of(
    view: FeastView,
    names: Sequence[str],
    source: str,
    columns: SourceColumns,
    *,
    full_feature_names: bool,
    knowledge_time: bool,
) -> JoinView:
    """Return a Feast feature view as the join sees it, as if its source had no index.

    Parameters
    ----------
    names
        Of its features that are asked for.
    source, columns
        What follows `from`, and its columns.
    """
    name, data_source = view.projection.name_to_use(), view.batch_source
    created = data_source.created_timestamp_column
    features = {feature.name: feature for feature in view.features}
    prefix = f"{name}__" if full_feature_names else ""
    return JoinView(
        name=name,
        source=source,
        keys=tuple(join_keys(view, columns)),
        timestamp=columns.at(data_source.timestamp_field),
        created=columns.at(created) if created else None,
        features=tuple(
            JoinFeature(columns.of(n), declared_type(features.get(n)), f"{prefix}{n}")
            for n in names
        ),
        tie_break=tuple(columns.of(n) for n in features),
        ttl=ttl_of(view),
        knowledge_time=knowledge_time,
        is_indexed=False,
    )


def check_names(names: Sequence[str], views: Sequence[JoinView]) -> None:
    """Check that the spine's columns `names` hold every join key, and that no two names are equal.

    Raises
    ------
    RunnerError
        Naming the first view and column that do not fit.
    """
    for view in views:
        missing = [key for key, _ in view.keys if key not in names]
        if missing:
            raise RunnerError(
                f"the spine has no column {missing[0]}, a join key of feature view {view.name}; "
                f"it has {', '.join(names)}",
                hint=f"select {missing[0]} in the spine, or rename the key with with_join_key_map",
            )
        taken = [feature.output for feature in view.features if feature.output in names]
        if taken:
            raise RunnerError(
                f"column {taken[0]} of the spine has the name of a feature of {view.name}",
                hint="rename it in the spine, or pass full_feature_names=True",
            )
    outputs = Counter(feature.output for view in views for feature in view.features)
    for name, count in outputs.items():
        if count > 1:
            raise RunnerError(
                f"{count} features have the name {name} in the answer: "
                + ", ".join(
                    f"{view.name}:{feature.column.name}"
                    for view in views
                    for feature in view.features
                    if feature.output == name
                ),
                hint="rename one of them, or pass full_feature_names=True",
            )


def common_keys(views: Sequence[JoinView]) -> tuple[str, ...]:
    """Return the join keys that all views have.

    Raises
    ------
    RunnerError
        If the views have different ones.
    """
    keys = [tuple(key for key, _ in view.keys) for view in views]
    if any(set(names) != set(keys[0]) for names in keys):
        raise RunnerError(
            "views with different join keys have no common rows: "
            + "; ".join(f"{v.name} ({', '.join(k)})" for v, k in zip(views, keys, strict=True)),
            hint="pass entity_df, or ask for one view at a time",
        )
    return keys[0]


def ttl_of(view: FeastView) -> timedelta | None:
    """Return the view's ttl; None where Feast's zero means for ever."""
    return view.ttl if isinstance(view.ttl, timedelta) and view.ttl > timedelta(0) else None


def declared_type(feature: FeastField | None) -> str | None:
    """Return the name of a Feast field's type; None for no field."""
    return str(feature.dtype.to_value_type().name) if feature else None

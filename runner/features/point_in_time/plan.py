"""From Feast's objects to the plan of a point-in-time join: columns, keys, strategy per view."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import psycopg

from runner import console
from runner.errors import RunnerError
from runner.features.point_in_time.columns import Column
from runner.features.point_in_time.indexes import NOT_INDEXED, check_indexes, index_advice
from runner.features.point_in_time.model import Feature, View
from serving.feast_format import DUMMY_KEY

EVENT_TIMESTAMP = "event_timestamp"
_TIMES = ("timestamptz", "timestamp", "date")


def describe(connection: psycopg.Connection, query: str, what: str) -> tuple[Column, ...]:
    """Return the columns of `query` as the server describes them; nothing is executed.

    Raises
    ------
    RunnerError
        If the server does not accept the query; the message holds its reason.
    """
    server = connection.pgconn
    result = server.prepare(b"", query.encode())
    if result.status == psycopg.pq.ExecStatus.COMMAND_OK:
        result = server.describe_prepared(b"")
    if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
        reason = result.get_error_message("utf-8").strip()
        raise RunnerError(f"{what}: {reason}", hint="try the SQL in psql; run `dbt build` first")
    names = ((result.fname(i) or b"").decode() for i in range(result.nfields))
    return tuple(Column.from_oid(name, result.ftype(i)) for i, name in enumerate(names))


def event_timestamp_of(columns: Sequence[Column], types: Sequence[str] = _TIMES) -> str:
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


def source_of(data_source: Any) -> str:
    """Return what stands behind `from` for a PostgreSQLSource."""
    options = data_source._postgres_options  # Feast offers no other way to tell
    if options._table:
        return str(options._table)
    return f"(\n{strip_semicolon(options._query)}\n)"


def strip_semicolon(query: str) -> str:
    """Return `query` such that it can stand in parentheses."""
    return query.strip().rstrip(";").rstrip()


def plan_views(
    connection: psycopg.Connection,
    requested: Iterable[tuple[Any, list[str]]],
    *,
    full_feature_names: bool,
    knowledge_time: bool,
) -> list[View]:
    """Return one `View` per pair (Feast feature view, names of its features)."""
    return [
        _plan_view(connection, view, names, full_feature_names, knowledge_time)
        for view, names in requested
    ]


def _plan_view(
    connection: psycopg.Connection,
    view: Any,
    names: list[str],
    full_feature_names: bool,
    knowledge_time: bool,
) -> View:
    source = source_of(view.batch_source)
    columns = source_columns(connection, view.batch_source, source)
    name = view.projection.name_to_use()
    timestamp = columns.at(view.batch_source.timestamp_field)
    created_name = view.batch_source.created_timestamp_column
    created = columns.at(created_name) if created_name else None
    keys = tuple(join_keys(view, columns))
    check = NOT_INDEXED
    if not source.startswith("("):
        visible_created = created.name if created and knowledge_time else None
        key_columns = [column.name for _, column in keys]
        index = (source, key_columns, timestamp.name, visible_created)
        check = check_indexes(connection, *index)
        advice = None if check.is_usable else index_advice(connection, *index)
        if advice:
            console.warn(f"{advice[0]}; {advice[1]}")
    features = {feature.name: feature for feature in view.features}
    prefix = f"{name}__" if full_feature_names else ""
    return View(
        name=name,
        source=source,
        keys=keys,
        timestamp=timestamp,
        created=created,
        features=tuple(
            Feature(columns.of(n), declared_type(features.get(n)), f"{prefix}{n}") for n in names
        ),
        tie_break=() if check.rules_out_ties else tuple(columns.of(n) for n in features),
        ttl=ttl_of(view),
        knowledge_time=knowledge_time,
        is_indexed=check.is_usable,
    )


def source_columns(connection: psycopg.Connection, data_source: Any, source: str) -> SourceColumns:
    """Return the columns of what `source_of(data_source)` gave."""
    what = f"data source {data_source.name}"
    return SourceColumns(
        data_source, describe(connection, f"select * from {source} as source", what)
    )


class SourceColumns:
    """The columns of a data source, found by the names they have there or in the view."""

    def __init__(self, data_source: Any, described: Iterable[Column]) -> None:
        self._source = data_source.name
        self._columns = {column.name: column for column in described}
        self._names = {new: old for old, new in data_source.field_mapping.items()}

    @property
    def all(self) -> list[Column]:
        """Every column of the source."""
        return list(self._columns.values())

    def of(self, name: str) -> Column:
        """Return the source's column behind the view's field `name`."""
        return self.at(self._names.get(name, name))

    def at(self, name: str) -> Column:
        """Return the source's column `name`."""
        column = self._columns.get(name) or self._columns.get(self._names.get(name, name))
        if column is None:
            raise RunnerError(
                f"data source {self._source} has no column {name}; "
                f"it has {', '.join(self._columns)}",
                hint="run `dbt build`, then `feast -c feature_repo apply`, so that both agree",
            )
        return column


def join_keys(view: Any, columns: SourceColumns) -> Iterable[tuple[str, Column]]:
    """Return the view's pairs (name of the key in the spine, source column)."""
    for entity in view.entity_columns:
        if entity.name != DUMMY_KEY:
            spine_key = view.projection.join_key_map.get(entity.name, entity.name)
            yield spine_key, columns.of(entity.name)


def check_names(names: Sequence[str], views: Sequence[View]) -> None:
    """Check that the spine's columns `names` hold every join key and no feature's name.

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


def ttl_of(view: Any) -> timedelta | None:
    """Return the view's ttl; None where Feast's zero means for ever."""
    return view.ttl if isinstance(view.ttl, timedelta) and view.ttl > timedelta(0) else None


def declared_type(feature: Any) -> str | None:
    """Return the name of a Feast field's type; None for no field."""
    return str(feature.dtype.to_value_type().name) if feature else None

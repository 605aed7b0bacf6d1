"""Read one view of entities from the online store, as any Feast client would find it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from contract.serving_errors import InvalidOnlineValueError
from contract.values import FeatureValue
from contract.view_layout import EXPIRED, StoredView, ViewLayout
from runner.errors import RunnerError
from runner.online.connection import OnlineConnection, connect, pack
from runner.online.online_config import load_online_config
from runner.online.redis_encoding import KeyFormat
from runner.project.manifest import FeatureMart
from runner.settings import Settings
from runner.warehouse.mart_snapshot import KEY_TYPES

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EXAMPLES = {
    "int64": "a whole number",
    "int32": "a whole number below 2^31",
    "timestamp": "an ISO 8601 time with its zone",
}

EntityKey = Mapping[str, FeatureValue]


@dataclass(frozen=True)
class StoredRow:
    """One entity's row of a view, as stored.

    Attributes
    ----------
    event_time
        When it became knowable; None: the entity is not stored.
    """

    event_time: datetime | None
    stored: StoredView


@dataclass(frozen=True)
class OnlineValue:
    """A feature as a reader sees it: `status` is present, null, missing or expired."""

    feature: str
    value: FeatureValue
    status: str


@dataclass(frozen=True)
class OnlineAnswer:
    """One view of one entity.

    Attributes
    ----------
    event_time, age_seconds
        When the row became knowable, and how long ago; None: not stored.
    ttl_left_seconds
        Until the values expire; negative: they have; None: never, or not stored.
    key_ttl_seconds
        Until Redis drops the entity unless it is materialized again; None: never.
    values
        Every feature of the view.
    """

    view: str
    entity: EntityKey
    event_time: datetime | None
    age_seconds: float | None
    ttl_left_seconds: float | None
    key_ttl_seconds: int | None
    values: tuple[OnlineValue, ...]


class OnlineReader:
    """Reads rows of one view."""

    def __init__(self, connection: OnlineConnection, mart: FeatureMart, project: str) -> None:
        self._connection = connection
        self._mart = mart
        self.keys = KeyFormat(project, {key: mart.columns[key].dtype for key in mart.join_keys})
        self._layout = view_layout(mart)

    def redis_keys(self, entities: Sequence[EntityKey]) -> list[bytes]:
        """Return the Redis key of each entity."""
        columns = {
            name: pa.array([e[name] for e in entities], KEY_TYPES[self._mart.columns[name].dtype])
            for name in self._mart.join_keys
        }
        return self.keys.encode(columns, len(entities))

    def read(self, keys: Sequence[bytes]) -> list[StoredRow]:
        """Return the row behind each Redis key."""
        commands = [pack(b"HMGET", key, *self._layout.fields) for key in keys]
        return [self._row(reply) for reply in self._connection.ask(commands, keys)]

    def _row(self, stored: StoredView) -> StoredRow:
        with _as_runner_error():
            seconds = self._layout.event_time(stored)
        time = None if seconds is None else _EPOCH + timedelta(seconds=seconds)
        return StoredRow(time, stored)


def view_layout(mart: FeatureMart) -> ViewLayout:
    """Return where the values of `mart` lie in the online store."""
    return ViewLayout(
        mart.name,
        {column.name: column.dtype for column in mart.features},
        None if mart.ttl is None else mart.ttl.total_seconds(),
    )


def get_online(settings: Settings, mart: FeatureMart, entity: EntityKey) -> OnlineAnswer:
    """Return what the online store holds of `entity` in the view of `mart`, and how old it is."""
    config = load_online_config(settings)
    with connect(settings, config) as connection:
        reader = OnlineReader(connection, mart, config.project)
        key = reader.redis_keys([entity])[0]
        row = reader.read([key])[0]
        key_ttl = connection.client.ttl(key)
    now = datetime.now(UTC)
    age = None if row.event_time is None else (now - row.event_time).total_seconds()
    left = None if age is None or mart.ttl is None else mart.ttl.total_seconds() - age
    return OnlineAnswer(
        view=mart.name,
        entity=entity,
        event_time=row.event_time,
        age_seconds=age,
        ttl_left_seconds=left,
        key_ttl_seconds=key_ttl if key_ttl >= 0 else None,
        values=tuple(seen_values(mart, row, now)),
    )


def seen_values(mart: FeatureMart, row: StoredRow, now: datetime) -> list[OnlineValue]:
    """Return the row's features as a reader at `now` sees them; what has expired, with its value.

    Raises
    ------
    RunnerError
        If a value is not of its type, or no model could take it.
    """
    layout = view_layout(mart)
    with _as_runner_error():
        seen = layout.see(row.stored, now.timestamp())
        values = layout.values(row.stored) if EXPIRED in seen.statuses else seen.values
    return [
        OnlineValue(column.name, value, status)
        for column, value, status in zip(mart.features, values, seen.statuses, strict=True)
    ]


@contextmanager
def _as_runner_error() -> Iterator[None]:
    try:
        yield
    except InvalidOnlineValueError as err:
        raise RunnerError(err.message, hint=err.hint) from err


def parse_entity(mart: FeatureMart, pairs: Sequence[str]) -> dict[str, FeatureValue]:
    """Return the entity keys in `pairs` (`user_id=123`), each with its type.

    Raises
    ------
    RunnerError
        If a key is missing, unknown or not of its type.
    """
    usage = (
        f"write {' '.join(f'{key}=…' for key in mart.join_keys)}"
        if mart.join_keys
        else (f"{mart.name} has no entities: leave the keys out")
    )
    given: dict[str, str] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        if name in given:
            raise RunnerError(f"{name} is given twice", hint=f"ask for one entity: {usage}")
        given[name] = text
    unknown = [name for name in given if name not in mart.join_keys]
    missing = [key for key in mart.join_keys if key not in given]
    if unknown:
        raise RunnerError(f"{unknown[0]!r} is not a join key of {mart.name}", hint=usage)
    if missing:
        raise RunnerError(f"{mart.name} needs the join key {missing[0]}", hint=usage)
    return {key: _key_value(key, given[key], mart.columns[key].dtype) for key in mart.join_keys}


def _key_value(key: str, text: str, dtype: str) -> FeatureValue:
    try:
        if dtype == "string":
            return text
        if dtype == "timestamp":
            return _aware(datetime.fromisoformat(text))
        number: int = pa.scalar(int(text), KEY_TYPES[dtype]).as_py()
    except (ValueError, OverflowError) as err:
        raise RunnerError(
            f"{key}={text} is not {_EXAMPLES[dtype]}", hint=f"{key} has type {dtype}"
        ) from err
    return number


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError
    return moment

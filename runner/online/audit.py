"""Compare the online store with the point-in-time join: the same entities at the same instant."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from contract.values import FeatureValue
from contract.view_layout import PRESENT
from runner.feature_store.as_of import AsOf, open_as_of
from runner.feature_store.recipe_features import RecipeFeature, recipe_features
from runner.online.connection import OnlineConnection, connect
from runner.online.online_config import load_online_config
from runner.online.reader import EntityKey, OnlineReader, StoredRow, seen_values
from runner.online.state import ViewState
from runner.online.watermark import Watermark
from runner.project.manifest import EVENT_TIMESTAMP, FeatureMart, Manifest
from runner.recipes.recipe import Recipe
from runner.settings import Settings
from runner.warehouse.open_mart import open_mart

MISMATCH, MISSING, EXTRA, STALE = "mismatch", "missing", "extra", "stale"
_EXAMPLES = 5
_Frozen = tuple[tuple[str, FeatureValue], ...]


@dataclass(frozen=True)
class Difference:
    """One value that is not the same in both stores."""

    kind: str
    entity: EntityKey
    online: FeatureValue
    offline: FeatureValue


@dataclass
class FeatureAudit:
    """What was found about one feature.

    Attributes
    ----------
    compared
        Entities compared.
    stored
        Entities that the last complete run left in the online store; None: there was none.
    mismatch
        Both stores have a value, and another one.
    missing
        Only the offline store has a value.
    extra
        Only the online store has one.
    stale
        The online value was right when it was materialized; the marts have moved on since.
    examples
        The first few differences.
    """

    feature: RecipeFeature
    compared: int = 0
    stored: int | None = None
    mismatch: int = 0
    missing: int = 0
    extra: int = 0
    stale: int = 0
    examples: list[Difference] = field(default_factory=list)

    @property
    def has_skew(self) -> bool:
        """True when any value differs."""
        return bool(self.mismatch or self.missing or self.extra or self.stale)

    def add(self, difference: Difference) -> None:
        """Count `difference`, and keep it if it is among the first."""
        setattr(self, difference.kind, getattr(self, difference.kind) + 1)
        if len(self.examples) < _EXAMPLES:
            self.examples.append(difference)


def audit(
    settings: Settings, manifest: Manifest, recipe: Recipe, *, entities: int = 1_000
) -> list[FeatureAudit]:
    """Return, per feature of `recipe`, how the online store differs from the point-in-time join.

    Parameters
    ----------
    entities
        How many to sample per view: so many from the mart, and as many from the online store,
        which may hold some that the mart has not.
    """
    # A view in several roles is stored once, under its own keys.
    wanted = (replace(f, role="", role_key="") for f in recipe_features(recipe, manifest))
    features = list({feature.column: feature for feature in wanted}.values())
    views = {feature.mart.name: feature.mart for feature in features}
    offline = open_as_of(settings, manifest, recipe)
    config = load_online_config(settings)
    found: dict[str, FeatureAudit] = {}
    with connect(settings, config) as connection:
        for name, mart in views.items():
            chosen = [feature for feature in features if feature.mart.name == name]
            view = _View(settings, connection, config.project, offline, mart, chosen)
            found |= {audited.feature.column: audited for audited in view.audit(entities)}
    return [found[feature.column] for feature in features]


@dataclass(frozen=True)
class _View:
    """One view of the recipe, and both places where its values are."""

    settings: Settings
    connection: OnlineConnection
    project: str
    offline: AsOf
    mart: FeatureMart
    features: Sequence[RecipeFeature]

    def audit(self, size: int) -> list[FeatureAudit]:
        """Compare up to `2 * size` entities."""
        reader = OnlineReader(self.connection, self.mart, self.project)
        with open_mart(self.settings, self.mart) as snapshot:
            now = snapshot.now
            sample = snapshot.sample(size) if self.mart.join_keys else [{}]
        keys: dict[bytes, EntityKey] = dict(zip(reader.redis_keys(sample), sample, strict=True))
        keys |= _online_sample(reader, self.mart, size, self.connection)
        rows = reader.read(list(keys))
        # What was materialized since `now` is right, and not comparable.
        known = [
            (entity, row)
            for entity, row in zip(keys.values(), rows, strict=True)
            if row.event_time is None or row.event_time <= now
        ]
        return self._compare(known, now)

    def _compare(
        self, known: Sequence[tuple[EntityKey, StoredRow]], now: datetime
    ) -> list[FeatureAudit]:
        watermark = ViewState(self.connection, self.project, self.mart.name).watermark
        stored = watermark.entities if watermark else None
        audited = {f.name: FeatureAudit(f, len(known), stored) for f in self.features}
        if not known:
            return list(audited.values())
        offline = self._offline([entity for entity, _ in known], now)
        different: list[tuple[EntityKey, StoredRow]] = []
        pairs: list[tuple[str, EntityKey, FeatureValue, FeatureValue]] = []
        for (entity, row), expected in zip(known, offline, strict=True):
            unequal = list(self._unequal(row, expected, now))
            pairs += [(name, entity, online, right) for name, online, right in unequal]
            if unequal:
                different.append((entity, row))
        was_right = self._right_when_materialized(different, watermark)
        for name, entity, online, right in pairs:
            kind = STALE if (name, _frozen(entity)) in was_right else _kind(online, right)
            audited[name].add(Difference(kind, entity, online, right))
        return list(audited.values())

    def _right_when_materialized(
        self, different: Sequence[tuple[EntityKey, StoredRow]], watermark: Watermark | None
    ) -> set[tuple[str, _Frozen]]:
        """Return (feature, entity) of the values that were right at the view's watermark."""
        if watermark is None or not different:
            return set()
        then = watermark.as_of.astimezone(UTC)
        offline = self._offline([entity for entity, _ in different], then)
        right: set[tuple[str, _Frozen]] = set()
        for (entity, row), expected in zip(different, offline, strict=True):
            wrong = {name for name, _, _ in self._unequal(row, expected, then)}
            right |= {(f.name, _frozen(entity)) for f in self.features if f.name not in wrong}
        return right

    def _unequal(
        self, row: StoredRow, expected: dict[str, FeatureValue], instant: datetime
    ) -> Iterable[tuple[str, FeatureValue, FeatureValue]]:
        seen = {value.feature: value for value in seen_values(self.mart, row, instant)}
        for feature in self.features:
            value = seen[feature.name]
            online = plain_value(value.value) if value.status == PRESENT else None
            right = plain_value(expected[feature.column])
            if online != right:
                yield feature.name, online, right

    def _offline(
        self, entities: Sequence[EntityKey], instant: datetime
    ) -> list[dict[str, FeatureValue]]:
        import pandas as pd

        frame = pd.DataFrame(list(entities), columns=list(self.mart.join_keys))
        frame[EVENT_TIMESTAMP] = pd.Timestamp(instant)
        rows: list[dict[str, FeatureValue]] = self.offline(frame, list(self.features)).to_pylist()
        return rows


def _online_sample(
    reader: OnlineReader, mart: FeatureMart, size: int, connection: OnlineConnection
) -> dict[bytes, EntityKey]:
    """Return up to `size` entities that the online store has in this view."""
    found: dict[bytes, EntityKey] = {}
    for keys in connection.scan(reader.keys.prefix, 1_000):
        decoded = {key: values for key in keys if (values := reader.keys.decode(key)) is not None}
        for (key, values), row in zip(decoded.items(), reader.read(list(decoded)), strict=True):
            if row.event_time is not None:
                found[key] = _entity(mart, dict(zip(reader.keys.names, values, strict=True)))
            if len(found) == size:
                return found
    return found


def _entity(mart: FeatureMart, values: dict[str, int | str]) -> EntityKey:
    return {
        name: datetime.fromtimestamp(int(values[name]), UTC)
        if mart.columns[name].dtype == "timestamp"
        else values[name]
        for name in mart.join_keys
    }


def _kind(online: FeatureValue, offline: FeatureValue) -> str:
    if online is None:
        return MISSING
    return EXTRA if offline is None else MISMATCH


def plain_value(value: FeatureValue) -> FeatureValue:
    """Return `value` as both stores can give it: NaN is null, times are whole seconds."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(microsecond=0)
    return value


def _frozen(entity: EntityKey) -> _Frozen:
    return tuple(sorted(entity.items()))

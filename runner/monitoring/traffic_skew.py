"""Skew on real traffic: what the model saw, compared with the point-in-time join at that instant.

The same comparison as `runner audit`, of rows that were answered. A value that differs has a cause,
as far as the log shows it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from contract.bundle import Bundle, BundleFeature
from contract.values import FeatureValue
from runner.feature_store.as_of import AsOf
from runner.feature_store.recipe_features import RecipeFeature
from runner.monitoring.served_log import ServedLog
from runner.online.audit import plain_value
from runner.project.manifest import EVENT_TIMESTAMP, Manifest

SAMPLE = 1_000
"""How many answered rows are compared, drawn at random."""
OVERRIDE, EXPIRED, CHANGED = "override", "expired", "changed definition"
LATE, NOT_MATERIALIZED, UNEXPLAINED = "late row", "not yet materialized", "unexplained"
_BY_STATUS = {"overridden": OVERRIDE, "expired": EXPIRED, "changed": CHANGED}
_SECOND = timedelta(microseconds=999_999)  # the online store has whole seconds


@dataclass
class FeatureSkew:
    """What was found about one feature.

    Attributes
    ----------
    causes
        Cause → how many values differ for it.
    """

    feature: str
    compared: int = 0
    causes: Counter[str] = field(default_factory=Counter)

    @property
    def share(self) -> float:
        """The share of values that differ, though no client sent them."""
        differing = sum(self.causes.values()) - self.causes[OVERRIDE]
        return differing / self.compared if self.compared else 0.0

    @property
    def record(self) -> dict[str, object]:
        """The finding in JSON's types."""
        causes = dict(sorted(self.causes.items()))
        return {
            "feature": self.feature,
            "compared": self.compared,
            "skew": self.share,
            "causes": causes,
        }


@dataclass(frozen=True)
class _Served:
    """A row of the log."""

    served_at: datetime
    keys: dict[str, FeatureValue]
    features: dict[str, FeatureValue]
    statuses: dict[str, str]
    event_times: dict[str, datetime | None]


def traffic_skew(
    log: ServedLog, bundle: Bundle, manifest: Manifest, as_of: AsOf
) -> list[FeatureSkew]:
    """Return, per feature that can be compared, how what was served differs from the join.

    Left out are personal data, of which the log has no values or hashed keys, and features that dbt
    no longer has.
    """
    rows = [_served(bundle, cells) for cells in log.sample(SAMPLE)]
    hidden = {key.name for key in bundle.entity_keys if key.pii}
    chosen = [
        (one, feature)
        for one in bundle.features
        if not one.pii and not hidden.intersection(one.keys)
        if (feature := _joined(one, manifest)) is not None
    ]
    if not rows or not chosen:
        return []
    keys = list(dict.fromkeys(key for one, _ in chosen for key in one.keys))
    right = _values(as_of, rows, keys, [r.served_at for r in rows], [f for _, f in chosen])
    found = {one.name: FeatureSkew(f"{one.projection}:{one.feature}") for one, _ in chosen}
    for projection in dict.fromkeys(one.projection for one, _ in chosen):
        pairs = [(one, feature) for one, feature in chosen if one.projection == projection]
        _compare(as_of, rows, right, pairs, found)
    return list(found.values())


def _compare(
    as_of: AsOf,
    rows: Sequence[_Served],
    right: Sequence[dict[str, FeatureValue]],
    pairs: Sequence[tuple[BundleFeature, RecipeFeature]],
    found: dict[str, FeatureSkew],
) -> None:
    """Count the features of one projection."""
    projection, keys = pairs[0][0].projection, list(pairs[0][0].keys)
    differing: list[int] = []
    for i, row in enumerate(rows):
        for one, feature in pairs:
            found[one.name].compared += 1
            if _logged(row, one) != plain_value(right[i][feature.column]):
                differing.append(i)
    differing = list(dict.fromkeys(differing))
    if not differing:
        return
    newest = _newest_read(rows, projection)
    wrong, features = [rows[i] for i in differing], [feature for _, feature in pairs]

    def joined(times: Sequence[datetime | None]) -> list[dict[str, FeatureValue]]:
        instants = [at or row.served_at for at, row in zip(times, wrong, strict=True)]
        return _values(as_of, wrong, keys, instants, features)

    read = [row.event_times.get(projection) for row in wrong]
    own = joined([None if at is None else at + _SECOND for at in read])
    known = joined([newest[i] for i in differing])
    for i, was_read, mine, then in zip(differing, read, own, known, strict=True):
        for one, feature in pairs:
            column, logged = feature.column, _logged(rows[i], one)
            if logged == plain_value(right[i][column]):
                continue
            at_read = plain_value(mine[column]) if was_read else None
            at_newest = plain_value(then[column]) if newest[i] else None
            cause = _BY_STATUS.get(rows[i].statuses.get(one.name, ""))
            found[one.name].causes[cause or _cause(logged, at_read, at_newest)] += 1


def _cause(logged: FeatureValue, at_read: FeatureValue, at_newest: FeatureValue) -> str:
    """Return why a logged value is not the right one.

    Parameters
    ----------
    at_read
        The join's value at the event time of the row that was read.
    at_newest
        The same at the newest event time that any row had read of the view by then: it was
        materialized at least up to there.
    """
    if logged != at_read:
        return UNEXPLAINED
    return NOT_MATERIALIZED if logged == at_newest else LATE


def _newest_read(rows: Sequence[_Served], projection: str) -> list[datetime | None]:
    """Return, per row, the newest event time of the view that it or an earlier row had read."""
    newest: list[datetime | None] = [None] * len(rows)
    latest: datetime | None = None
    for i in sorted(range(len(rows)), key=lambda i: rows[i].served_at):
        read = rows[i].event_times.get(projection)
        if read is not None and (latest is None or read > latest):
            latest = read
        newest[i] = None if latest is None else min(latest + _SECOND, rows[i].served_at)
    return newest


def _values(
    as_of: AsOf,
    rows: Sequence[_Served],
    keys: Sequence[str],
    instants: Sequence[datetime],
    features: Sequence[RecipeFeature],
) -> list[dict[str, FeatureValue]]:
    frame = pd.DataFrame([{key: row.keys[key] for key in keys} for row in rows])
    frame[EVENT_TIMESTAMP] = pd.to_datetime(pd.Series(list(instants)), utc=True)
    found: list[dict[str, FeatureValue]] = as_of(frame, features).to_pylist()
    return found


def _joined(one: BundleFeature, manifest: Manifest) -> RecipeFeature | None:
    mart = manifest.marts.get(one.view)
    if mart is None or all(column.name != one.feature for column in mart.features):
        return None
    renamed = [key for key, column in zip(one.join_keys, one.keys, strict=True) if key != column]
    role_key = renamed[0] if renamed else ""
    return RecipeFeature(mart, one.feature, one.dtype, "", role=one.role, role_key=role_key)


def _logged(row: _Served, one: BundleFeature) -> FeatureValue:
    return plain_value(row.features.get(one.name))


def _served(bundle: Bundle, cells: Sequence[str]) -> _Served:
    served_at, keys, features, statuses, times = cells
    key_types = {key.name: key.dtype for key in bundle.entity_keys}
    feature_types = {one.name: one.dtype for one in bundle.features}
    return _Served(
        datetime.fromisoformat(served_at),
        _typed(json.loads(keys), key_types),
        _typed(json.loads(features), feature_types),
        json.loads(statuses),
        {
            view: None if text is None else datetime.fromisoformat(text).astimezone(UTC)
            for view, text in json.loads(times).items()
        },
    )


def _typed(values: dict[str, Any], types: Mapping[str, str]) -> dict[str, FeatureValue]:
    """Return the values that JSON has as text, or as another kind of number, in their types."""
    read: dict[str, FeatureValue] = dict(values)
    for name, dtype in types.items():
        value = values.get(name)
        if value is not None and dtype == "timestamp":
            read[name] = datetime.fromisoformat(value)
        elif value is not None and dtype.startswith("float"):
            read[name] = float(value)
    return read

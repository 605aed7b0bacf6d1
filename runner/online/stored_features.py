"""Whether the online store has what a model asks it for, by a sample of what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from contract.bundle import Bundle, BundleFeature
from contract.feast_format import key_prefix
from contract.view_layout import EXPIRED, MISSING, ViewLayout
from contract.view_state import DIGESTS, is_changed, state_key, stored_digests
from runner.online.connection import OnlineConnection, pack

_ENTITIES = 100
_MOST = 0.5


@dataclass(frozen=True)
class StoredFeatures:
    """What a sample of the stored entities says about a model's features.

    Attributes
    ----------
    absent
        By view: how many of its features, from 0 to 1, are missing or expired. Left out are views
        whose entities were not found among very many others.
    widths
        By view: how many features of it the model takes.
    """

    absent: Mapping[str, float]
    widths: Mapping[str, int]

    @property
    def problem(self) -> str | None:
        """What is wrong where most features are missing or expired; None: nothing is."""
        seen = sum(self.widths[view] for view in self.absent)
        share = sum(self.widths[view] * share for view, share in self.absent.items())
        if not seen or share / seen <= _MOST:
            return None
        views = ", ".join(view for view, share in self.absent.items() if share > _MOST)
        return f"{share / seen:.0%} of its features are missing or expired online: see {views}"


def stored_features(connection: OnlineConnection, bundle: Bundle, now: datetime) -> StoredFeatures:
    """Return what is stored of the features that a serving bundle takes, as seen at `now`.

    Raises
    ------
    InvalidOnlineValueError
        If a value is none that the model can take.
    """
    views: dict[str, dict[str, BundleFeature]] = {}
    for feature in bundle.features:  # in several roles it is stored once
        views.setdefault(feature.view, {})[feature.feature] = feature
    samples: dict[tuple[str, ...], list[bytes] | None] = {}
    absent = {}
    for view, by_name in views.items():
        features = list(by_name.values())
        keys = features[0].join_keys
        if keys not in samples:
            samples[keys] = _sample(connection, keys, bundle.feast_project)
        sample = samples[keys]
        if sample is not None:
            absent[view] = _absent_share(connection, features, sample, now.timestamp())
    return StoredFeatures(absent, {view: len(features) for view, features in views.items()})


def changed_online(connection: OnlineConnection, bundle: Bundle) -> list[str]:
    """Return the bundle's features whose stored values are of another definition."""
    known = {
        view: stored_digests(connection.client.hget(state_key(bundle.feast_project, view), DIGESTS))
        for view in {feature.view for feature in bundle.features}
    }
    return [
        f"{feature.view}:{feature.feature}"
        for feature in bundle.features
        if is_changed(known[feature.view], feature.feature, feature.definition)
    ]


def _sample(
    connection: OnlineConnection, join_keys: Sequence[str], project: str
) -> list[bytes] | None:
    """Return hashes of some entities; None if there may be some that were not found."""
    found, complete = connection.sample(key_prefix(join_keys), project.encode(), _ENTITIES)
    return found if found or complete else None


def _absent_share(
    connection: OnlineConnection,
    features: Sequence[BundleFeature],
    keys: Sequence[bytes],
    now: float,
) -> float:
    layout = ViewLayout(
        features[0].view,
        {feature.feature: feature.dtype for feature in features},
        features[0].ttl_seconds,
        [feature.redis_field for feature in features],
    )
    commands = [pack(b"HMGET", key, *layout.fields) for key in keys]
    rows = [layout.see(stored, now) for stored in connection.ask(commands, keys)]
    statuses = [status for row in rows for status in row.statuses]
    absent = sum(status in {MISSING, EXPIRED} for status in statuses)
    return absent / len(statuses) if statuses else 1.0

"""What a served model reads stays in the online store, and stays what it was."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from contract.serving_errors import ServingError
from contract.view_state import FeatureDigests
from runner import console
from runner.commands.builds.feature_guard import (
    ChangedFeature,
    by_view,
    changed_features,
    refusal,
    ways_on,
)
from runner.commands.builds.other_sql import built_otherwise, built_otherwise_error
from runner.commands.builds.recorded_definitions import same_digests
from runner.errors import RunnerError
from runner.lineage.feature_definitions import Definitions
from runner.lineage.kept_definitions import current_definitions, known_definitions
from runner.project.manifest import FeatureMart, Manifest
from runner.records.served_versions import (
    ServedFeature,
    ServedVersion,
    retire,
    served_versions,
)
from runner.settings import Settings


class GoneFeatures(NamedTuple):
    """Features of a view that dbt no longer has: the error, and which served versions read one."""

    error: RunnerError
    versions: Sequence[ServedVersion]


@dataclass(frozen=True)
class GuardedViews:
    """What materializing feature views would do to served versions.

    Attributes
    ----------
    needed
        View → the served versions that read it.
    changed
        The features that would be others for versions with an alias.
    gone
        View → why its values must stay: dbt no longer has features that served versions read.
    digests
        View → what is known of its features' definitions.
    unknown
        Why nobody knows what served versions read; None where that is known.
    built_otherwise
        View → why its table is not what the project defines, for what served versions take.
    """

    needed: Mapping[str, list[ServedVersion]]
    changed: list[ChangedFeature]
    gone: Mapping[str, GoneFeatures]
    digests: Mapping[str, FeatureDigests]
    unknown: ServingError | None = None
    built_otherwise: Mapping[str, RunnerError] = field(default_factory=dict)

    @property
    def refusals(self) -> dict[str, RunnerError]:
        """The views that must not be copied, each with the error."""
        changed = {view: refusal(view, found) for view, found in by_view(self.changed).items()}
        gone = {view: gone.error for view, gone in self.gone.items()}
        return {**self.built_otherwise, **changed, **gone}

    def taken_by(self, model: str) -> list[ServedFeature]:
        """Return the features that the served versions of a registered model take."""
        versions = {str(v): v for found in self.needed.values() for v in found if v.name == model}
        return [taken for version in versions.values() for taken in version.features]

    def departed(self, view: str) -> RunnerError:
        """Return the error for a view that dbt no longer has and served versions read."""
        return _gone(view, f"{view} is", self.needed[view])

    def accepted(self) -> GuardedViews:
        """Return the same once no served version reads any of it."""
        return replace(self, needed={}, changed=[], gone={})

    def losers(self, departed: Collection[str]) -> list[ServedVersion]:
        """Return the served versions that take changed features, or ones that left dbt.

        Parameters
        ----------
        departed
            Views that dbt no longer has.
        """
        found = [each.version for each in self.changed if each.version.is_protected]
        found += [version for gone in self.gone.values() for version in gone.versions]
        found += [version for view in departed for version in self.needed.get(view, ())]
        return list({str(version): version for version in found}.values())

    def retire(self, settings: Settings, departed: Collection[str], reason: str) -> None:
        """Retire the `losers`."""
        versions = self.losers(departed)
        if not versions:
            return
        from runner.records.registry import connect

        for version in retire(connect(settings), versions, reason):
            console.note(f"{version} is retired: {reason}")


def guarded_views(
    settings: Settings, manifest: Manifest, marts: Sequence[FeatureMart]
) -> GuardedViews:
    """Return what materializing the marts would do to served versions.

    Raises
    ------
    RunnerError
        If dbt cannot compile what they are to be compared with.
    """
    try:
        versions = served_versions(settings, manifest)
        unknown = None
    except ServingError as err:
        console.warn(
            f"not compared with what served models were trained on: {err.message}; what left dbt "
            "stays in Redis"
        )
        versions, unknown = [], err
    views = {mart.name for mart in marts}
    taken = {taken.view for v in versions if v.definitions for taken in v.features}
    with console.step("compare features with those of served models") as step:
        current = known_definitions(settings, views)
        if current is None and (unknown or views & taken):
            current = current_definitions(settings, views, step.update)
        changed = changed_features(current, versions, views) if current else []
        step.update(f"{len(changed)} changed" if changed else "the same")
        needed = _needed(versions)
        return GuardedViews(
            needed,
            changed,
            dict(_gone_features(marts, needed)),
            _digests(current, versions) if current else {},
            unknown,
            _built_otherwise(settings, marts, current, versions) if current else {},
        )


def _built_otherwise(
    settings: Settings,
    marts: Iterable[FeatureMart],
    current: Definitions,
    versions: Iterable[ServedVersion],
) -> dict[str, RunnerError]:
    found = by_view(built_otherwise(settings, current, versions, current.views))
    return {
        mart.name: built_otherwise_error(mart, found[mart.name])
        for mart in marts
        if mart.name in found
    }


def _needed(versions: Iterable[ServedVersion]) -> dict[str, list[ServedVersion]]:
    needed: dict[str, list[ServedVersion]] = {}
    for version in versions:
        for view in dict.fromkeys(taken.view for taken in version.features):
            if version.is_protected:
                needed.setdefault(view, []).append(version)
    return needed


def _gone_features(
    marts: Iterable[FeatureMart], needed: Mapping[str, list[ServedVersion]]
) -> Iterator[tuple[str, GoneFeatures]]:
    for mart in marts:
        there = {feature.name for feature in mart.features}
        read = [(each, v) for v in needed.get(mart.name, ()) for each in v.features]
        gone = [
            (f"{mart.name}:{each.feature}", version)
            for each, version in read
            if each.view == mart.name and each.feature not in there
        ]
        names = list(dict.fromkeys(name for name, _ in gone))
        versions = list({str(version): version for _, version in gone}.values())
        if gone:
            is_or_are = f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"
            yield mart.name, GoneFeatures(_gone(mart.name, is_or_are, versions), versions)


def _gone(view: str, what: str, versions: Sequence[ServedVersion]) -> RunnerError:
    return RunnerError(
        f"{what} no longer in dbt, and {', '.join(map(str, versions))} "
        f"{'reads' if len(versions) == 1 else 'read'} it; the values stay in Redis",
        hint=ways_on(view),
    )


def _digests(current: Definitions, versions: Iterable[ServedVersion]) -> dict[str, FeatureDigests]:
    same = same_digests(current, versions)
    return {
        view: {
            feature: [*dict.fromkeys([digest, *same.get(f"{view}:{feature}", ())])]
            for feature, digest in current.digests(view).items()
        }
        for view in current.views
    }

"""What a served model reads stays in the online store, and stays what it was."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from contract.serving_errors import ServingError
from contract.view_state import FeatureDigests
from runner import console
from runner.commands.feature_guard import (
    ChangedFeature,
    by_view,
    changed_features,
    refusal,
    same_digests,
    ways_on,
)
from runner.errors import RunnerError
from runner.lineage.feature_definitions import Definitions
from runner.lineage.kept_definitions import current_definitions, known_definitions
from runner.project.manifest import FeatureMart, Manifest
from runner.records.run_facts import RETIRED
from runner.records.served_versions import ServedFeature, ServedVersion, served_versions
from runner.settings import Settings


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
    """

    needed: Mapping[str, list[ServedVersion]]
    changed: list[ChangedFeature]
    gone: Mapping[str, RunnerError]
    digests: Mapping[str, FeatureDigests]

    @property
    def refusals(self) -> dict[str, RunnerError]:
        """The views that must not be copied, each with the error."""
        changed = {view: refusal(view, found) for view, found in by_view(self.changed).items()}
        return {**changed, **self.gone}

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

    def retire(self, settings: Settings, views: Collection[str], reason: str) -> None:
        """Retire the served versions that read these views."""
        versions = {str(v): v for view in views for v in self.needed.get(view, ())}
        if not versions:
            return
        from runner.records.registry import connect

        client = connect(settings)
        for version in versions.values():
            client.set_model_version_tag(version.name, version.version, RETIRED, reason)
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
    except ServingError as err:
        console.warn(f"not compared with what served models were trained on: {err.message}")
        versions = []
    views = {mart.name for mart in marts}
    taken = {taken.view for v in versions if v.definitions for taken in v.features}
    with console.step("compare features with those of served models") as step:
        current = known_definitions(settings, views)
        if current is None and views & taken:
            current = current_definitions(settings, views, step.update)
        changed = changed_features(current, versions, views) if current else []
        step.update(f"{len(changed)} changed" if changed else "the same")
        needed = _needed(versions)
        return GuardedViews(
            needed,
            changed,
            dict(_gone_features(marts, needed)),
            _digests(current, versions) if current else {},
        )


def _needed(versions: Iterable[ServedVersion]) -> dict[str, list[ServedVersion]]:
    needed: dict[str, list[ServedVersion]] = {}
    for version in versions:
        for view in dict.fromkeys(taken.view for taken in version.features):
            if version.is_protected:
                needed.setdefault(view, []).append(version)
    return needed


def _gone_features(
    marts: Iterable[FeatureMart], needed: Mapping[str, list[ServedVersion]]
) -> Iterator[tuple[str, RunnerError]]:
    for mart in marts:
        there = {feature.name for feature in mart.features}
        read = [taken for version in needed.get(mart.name, ()) for taken in version.features]
        gone = [each.feature for each in read if each.view == mart.name]
        gone = [name for name in dict.fromkeys(gone) if name not in there]
        if gone:
            names = ", ".join(f"{mart.name}:{name}" for name in gone)
            is_or_are = f"{names} {'is' if len(gone) == 1 else 'are'}"
            yield mart.name, _gone(mart.name, is_or_are, needed[mart.name])


def _gone(view: str, what: str, versions: Iterable[ServedVersion]) -> RunnerError:
    return RunnerError(
        f"{what} no longer in dbt, and {', '.join(map(str, versions))} reads it; the values stay "
        "in Redis",
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

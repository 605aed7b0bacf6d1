"""No mart is overwritten by another definition while a served model version reads it.

dbt would replace the table, and the online store would hand the new values to a model that was
trained on the old ones, each of them `present`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from runner.errors import CombinedError, RunnerError
from runner.lineage.feature_definitions import Definitions
from runner.lineage.kept_definitions import current_definitions
from runner.project.dbt_process import Progress
from runner.project.manifest import load_manifest
from runner.project.manifest_file import (
    ManifestFile,
    read_manifest,
    upstream_first,
    view_name,
)
from runner.records.served_versions import ServedVersion, served_versions
from runner.settings import Settings


@dataclass(frozen=True)
class ChangedFeature:
    """A feature that a version with an alias takes, and that is another one now.

    Attributes
    ----------
    lines
        What changed, as lines of a diff.
    """

    view: str
    feature: str
    version: ServedVersion
    lines: tuple[str, ...]

    @property
    def key(self) -> tuple[str, str, str]:
        """What changed, for which version."""
        return self.view, self.feature, str(self.version)


def require_unchanged(
    settings: Settings, names: Collection[str], accepted: str, progress: Progress
) -> list[ChangedFeature]:
    """Return the features that a `dbt build` of `names` would change for versions with an alias.

    Parameters
    ----------
    accepted
        Why those of served versions may change; empty: they may not.

    Raises
    ------
    RunnerError
        If they may not, and one would.
    """
    changed = changed_by_build(settings, names, progress)
    errors = refusals(changed)
    if errors and not accepted:
        raise CombinedError(errors, hint=errors[0].hint)
    return changed


def refused_by_build(
    settings: Settings, names: Collection[str], progress: Progress
) -> list[RunnerError]:
    """Return why a `dbt build` of `names` is refused, an error per view."""
    return refusals(changed_by_build(settings, names, progress))


def changed_by_build(
    settings: Settings, names: Collection[str], progress: Progress
) -> list[ChangedFeature]:
    """Return the features that a `dbt build` of `names` would change for versions with an alias."""
    manifest = load_manifest(settings.manifest_path)
    versions = [each for each in served_versions(settings, manifest) if each.definitions]
    if not versions:
        return []
    views = {taken.view for version in versions for taken in version.features}
    current = current_definitions(settings, views, progress)
    built = marts_upstream(read_manifest(settings.manifest_path), names)
    return changed_features(current, versions, built)


def changed_features(
    current: Definitions, versions: Iterable[ServedVersion], views: Collection[str]
) -> list[ChangedFeature]:
    """Return what the versions take of these views and `current` defines differently."""
    return [
        ChangedFeature(taken.view, taken.feature, version, tuple(lines))
        for version in versions
        if version.definitions is not None and version.definitions.is_comparable(current)
        for taken in version.features
        if taken.view in views and taken.view in version.definitions.views
        if (lines := version.definitions.changes(current, taken.view, taken.feature))
    ]


def refusals(changed: Iterable[ChangedFeature]) -> list[RunnerError]:
    """Return an error per view of which protected versions take a changed feature."""
    return [refusal(view, found) for view, found in by_view(changed).items()]


def refusal(view: str, changed: Sequence[ChangedFeature]) -> RunnerError:
    """Return the error for features of one view that served versions take."""
    versions = list(dict.fromkeys(str(each.version) for each in changed))
    features = list(dict.fromkeys(each.feature for each in changed))
    return RunnerError(
        f"{view}: {', '.join(features)} changed, and {', '.join(versions)} "
        f"{'was' if len(versions) == 1 else 'were'} trained on the earlier definition: "
        f"{'; '.join(changed[0].lines)}",
        hint=ways_on(view),
    )


def ways_on(view: str) -> str:
    """Return what to do instead of changing a mart under a served model."""
    return (
        f"undo the change and make it in a new version of the mart: `runner new-version {view}`; "
        'or repeat with --accept-changed-features "REASON", which retires these model versions'
    )


def by_view(changed: Iterable[ChangedFeature]) -> Mapping[str, list[ChangedFeature]]:
    """Return the changed features that protected versions take, by view."""
    found: dict[str, list[ChangedFeature]] = {}
    for each in changed:
        if each.version.is_protected:
            found.setdefault(each.view, []).append(each)
    return found


def marts_upstream(content: ManifestFile, names: Collection[str]) -> set[str]:
    """Return the dbt models `names` and all upstream of them, by view name."""
    nodes = {k: node for k, node in content["nodes"].items() if node["resource_type"] == "model"}
    return {view_name(nodes[key]) for key in upstream_first(nodes, names)}

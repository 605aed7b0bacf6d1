"""Features whose table was built from other SQL than the project has: a change that was undone.

The definitions of the project are right again, and the table still has the changed values. Only
builds of this checkout are known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from runner.commands.builds.feature_guard import (
    ChangedFeature,
    by_view,
    changed_features,
    marts_upstream,
)
from runner.errors import RunnerError
from runner.lineage.feature_definitions import DbtQuery, Definitions
from runner.lineage.kept_definitions import current_definitions
from runner.project.built_from import BuiltQuery, built_from
from runner.project.dbt_process import Progress
from runner.project.manifest import FeatureMart, load_manifest
from runner.project.manifest_file import read_manifest
from runner.records.served_versions import ServedVersion, served_versions
from runner.settings import Settings


def built_otherwise(
    settings: Settings,
    current: Definitions,
    versions: Iterable[ServedVersion],
    views: Collection[str],
) -> list[ChangedFeature]:
    """Return what versions take as `current` defines it, and tables have by another definition."""
    found: list[ChangedFeature] = []
    versions, known = list(versions), built_from(settings)
    for view in sorted({*views} & current.views.keys() & known.keys()):
        built = _as_built(current.of([view]), known[view])
        now = {each.key for each in changed_features(current, versions, [view])}
        then = changed_features(built, versions, [view])
        found += [each for each in then if each.key not in now]
    return found


def is_built_otherwise(settings: Settings, names: Collection[str], progress: Progress) -> bool:
    """Return whether features whose table was built from other SQL are upstream of `names`.

    Parameters
    ----------
    names
        Of dbt models.
    """
    views = marts_upstream(read_manifest(settings.manifest_path), names)
    if not views & built_from(settings).keys():
        return False
    versions = served_versions(settings, load_manifest(settings.manifest_path))
    taken = {each.view for version in versions if version.definitions for each in version.features}
    current = current_definitions(settings, taken, progress)
    return bool(by_view(built_otherwise(settings, current, versions, views)))


def built_otherwise_error(mart: FeatureMart, found: Iterable[ChangedFeature]) -> RunnerError:
    """Return the error for a mart with features whose table was built from other SQL."""
    features = ", ".join(dict.fromkeys(each.feature for each in found))
    return RunnerError(
        f"{mart.name}: the table was built from other SQL than the project has now, and "
        f"{features} may have other values",
        hint=f"run {rebuild([mart])}, then repeat",
    )


def rebuild(marts: Iterable[FeatureMart]) -> str:
    """Return the command that builds marts and all upstream of them from nothing."""
    names = " ".join(f"+{mart.selector or mart.name}" for mart in marts)
    return f"`dbt build --full-refresh --select {names}`"


def _as_built(current: Definitions, queries: Iterable[BuiltQuery]) -> Definitions:
    """Return the definitions with the SQL of the tables; what has new columns is not compared."""
    contract = next(iter(current.views.values()))
    needed = {*contract.keys, *contract.features}
    built = {
        each["name"]: DbtQuery(each["sql"], each["reads"])
        for each in queries
        if each["name"] != contract.query or needed <= {*each["columns"]}
    }
    return replace(current, queries={**current.queries, **built}, known_digests={})

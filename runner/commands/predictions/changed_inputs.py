"""Features that a scored version was trained on, and that the project defines differently now."""

from __future__ import annotations

from collections.abc import Iterable

from runner import console
from runner.commands.builds.feature_guard import ChangedFeature, changed_features
from runner.commands.builds.other_sql import built_otherwise, rebuild
from runner.errors import RunnerError
from runner.lineage.kept_definitions import current_definitions
from runner.project.manifest import Manifest
from runner.records.served_versions import trained_version
from runner.settings import Settings


def warn_of_changed_features(
    settings: Settings, manifest: Manifest, name: str, number: str
) -> None:
    """Warn if a mart may hold other values than the version's features had in training.

    They are scored all the same, as the API does: a version that was retired goes on answering.
    """
    version = trained_version(settings, manifest, name, number)
    if version is None or version.definitions is None or not version.features:
        return
    views = {taken.view for taken in version.features}
    shown = f"{name} version {number}"
    try:
        with console.step("compare features with those of training") as step:
            current = current_definitions(settings, views, step.update)
            changed = changed_features(current, [version], views)
            rebuilt = built_otherwise(settings, current, [version], views)
            names, others = _names(changed), _names(rebuilt)
            if not version.definitions.is_comparable(current):
                step.update("not compared: trained on another kind of warehouse")
            else:
                step.update(f"{len({*names, *others})} changed" if names or others else "the same")
    except RunnerError as err:
        console.warn(f"features not compared with those {shown} was trained on: {err.message}")
        return
    if names:
        console.warn(
            f"{shown} was trained on another definition of {', '.join(names)} than the project "
            "has: as soon as dbt builds the new one, its predictions are wrong (`runner help "
            "changing-a-feature`)"
        )
    if others:
        marts = [manifest.marts[view] for view in sorted({each.view for each in rebuilt})]
        console.warn(
            f"{shown}: predictions are wrong if they use {', '.join(others)}: the table was built "
            f"from other SQL than the project has now; run {rebuild(marts)}, then repeat"
        )


def _names(changed: Iterable[ChangedFeature]) -> list[str]:
    return list(dict.fromkeys(f"{each.view}:{each.feature}" for each in changed))

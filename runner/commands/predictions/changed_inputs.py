"""Features that a scored version was trained on, and that the project defines differently now."""

from __future__ import annotations

from runner import console
from runner.commands.builds.feature_guard import changed_features
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
    if version is None or version.definitions is None:
        return
    views = {taken.view for taken in version.features}
    label = f"{name} version {number}"
    try:
        with console.step("compare features with those of training") as step:
            current = current_definitions(settings, views, step.update)
            changed = changed_features(current, [version], views)
            names = list(dict.fromkeys(f"{each.view}:{each.feature}" for each in changed))
            step.update(f"{len(names)} changed" if names else "the same")
    except RunnerError as err:  # dbt cannot compile
        console.warn(f"features not compared with those {label} was trained on: {err.message}")
        return
    if names:
        console.warn(
            f"{label} was trained on another definition of {', '.join(names)} than the project "
            "has now: once dbt has built it, predictions are wrong (`runner help "
            "changing-a-feature`)"
        )

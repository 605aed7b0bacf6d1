"""The definitions of a new model version's features, as they are recorded with the model.

The online store identifies definitions by their digests. Digests depend on sqlglot's version: equal
definitions keep the digest that they got first.
"""

from __future__ import annotations

from collections.abc import Iterable

from runner import console
from runner.lineage.feature_definitions import Definitions, FeatureDefinitions
from runner.lineage.kept_definitions import current_definitions
from runner.project.manifest import Manifest
from runner.recipes.recipe import Recipe
from runner.records.served_versions import ServedVersion, served_versions
from runner.settings import Settings


def recorded_definitions(
    settings: Settings, manifest: Manifest, recipe: Recipe
) -> FeatureDefinitions:
    """Return the definitions of the recipe's features, to be recorded with its model.

    Raises
    ------
    RunnerError
        If dbt cannot compile.
    """
    with console.step("read the SQL of the features") as step:
        current = current_definitions(settings, recipe.feature_marts, step.update)
        versions = served_versions(settings, manifest)
        step.update(f"{len(current.queries)} queries")
        return with_known_digests(current, versions)


def with_known_digests(
    current: Definitions, versions: Iterable[ServedVersion]
) -> FeatureDefinitions:
    """Return the definitions, with the digests that equal ones already have.

    Digests depend on sqlglot's version, and the online store knows features by them: a feature
    that a version took before keeps the digest that it got then.
    """
    digests = {
        f"{view}:{feature}": digest
        for view in current.views
        for feature, digest in current.digests(view).items()
    }
    known = {reference: found[0] for reference, found in same_digests(current, versions).items()}
    return FeatureDefinitions(current, {**digests, **known})


def same_digests(current: Definitions, versions: Iterable[ServedVersion]) -> dict[str, list[str]]:
    """Return, by feature, the digests of versions that define it as `current` does."""
    found: dict[str, list[str]] = {}
    for version in versions:
        for taken in version.features:
            known, view = version.definitions, taken.view
            if known is None or taken.digest is None or view not in known.views:
                continue
            if known.is_comparable(current) and not known.changes(current, view, taken.feature):
                digests = found.setdefault(taken.name, [])
                if taken.digest not in digests:
                    digests.append(taken.digest)
    return found

"""What a recipe needs from dbt: names checked, spine and feature marts built."""

from __future__ import annotations

from typing import NamedTuple

from runner import console
from runner.bytes_billed import Billed
from runner.commands.feature_guard import ChangedFeature, changed_by_build
from runner.errors import RunnerError
from runner.project import dbt
from runner.project.dbt_process import Progress
from runner.project.manifest import Manifest, load_manifest
from runner.recipes.recipe import Recipe
from runner.recipes.references import check_references
from runner.settings import Settings


class BuiltSql(NamedTuple):
    """What dbt built.

    Attributes
    ----------
    billed
        As `dbt.build` returns it.
    changed
        The features that versions with an alias take, and that are others now.
    """

    manifest: Manifest
    billed: dict[str, Billed]
    changed: list[ChangedFeature]


def build_sql(settings: Settings, recipe: Recipe, accepted: str = "") -> BuiltSql:
    """Run `dbt build` for the recipe's spine and feature marts.

    A name that dbt does not know would select nothing and pass, so names are checked before. An
    incremental mart that changed is built from nothing: its old rows have the old meaning.

    Parameters
    ----------
    accepted
        Why features may change under a served version; empty: they may not.

    Raises
    ------
    RunnerError
        If dbt would change a feature that a served version takes; nothing is built then.
    """
    with console.step("dbt: build spine and feature marts") as step:
        manifest = checked_manifest(settings, recipe, step.update)
        marts = recipe.feature_marts
        selected = [recipe.spine, *marts]
        changed = changed_by_build(settings, selected, accepted, step.update)
        billed = dbt.build(settings, selected, step.update, full_refresh=bool(changed))
        manifest = load_manifest(settings.manifest_path)
        check_references(recipe, manifest)
        step.update(f"{recipe.spine}, {', '.join(marts)}")
    return BuiltSql(manifest, billed, changed)


def checked_manifest(settings: Settings, recipe: Recipe, progress: Progress) -> Manifest:
    """Return what dbt knows of the project, read anew where the recipe does not fit it."""
    try:
        manifest = load_manifest(settings.manifest_path)
        check_references(recipe, manifest)
    except RunnerError:
        # The manifest may be older than the SQL: let dbt read the project before judging.
        dbt.run(settings, ["parse"], progress)
        manifest = load_manifest(settings.manifest_path)
        check_references(recipe, manifest)
    return manifest

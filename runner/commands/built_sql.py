"""What a recipe needs from dbt: names checked, spine and feature marts built."""

from __future__ import annotations

from runner import console
from runner.bytes_billed import Billed
from runner.errors import RunnerError
from runner.project import dbt
from runner.project.dbt_process import Progress
from runner.project.manifest import Manifest, load_manifest
from runner.recipes.recipe import Recipe
from runner.recipes.references import check_references
from runner.settings import Settings


def build_sql(settings: Settings, recipe: Recipe) -> tuple[Manifest, dict[str, Billed]]:
    """Run `dbt build` for the recipe's spine and feature marts; return what dbt then knows.

    And what it was billed, as `dbt.build` returns it.

    A name that dbt does not know would select nothing and pass, so names are checked before.
    """
    with console.step("dbt: build spine and feature marts") as step:
        manifest = checked_manifest(settings, recipe, step.update)
        marts = recipe.feature_marts
        billed = dbt.build(settings, [recipe.spine, *marts], step.update)
        manifest = load_manifest(settings.manifest_path)
        check_references(recipe, manifest)
        step.update(f"{recipe.spine}, {', '.join(marts)}")
    return manifest, billed


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

"""What a recipe needs from dbt: names checked, spine and feature marts built."""

from __future__ import annotations

from contextlib import suppress

from runner import console
from runner.bytes_billed import Billed
from runner.errors import RunnerError
from runner.project import dbt, freshness
from runner.project.manifest import Manifest, load_manifest
from runner.recipes.recipe import Recipe
from runner.recipes.references import check_references
from runner.settings import Settings


def require_fit(settings: Settings, recipe: Recipe) -> None:
    """Raise unless the recipe fits dbt's models; nothing is built, and no server is needed.

    Raises
    ------
    RunnerError
        With the place in the recipe; or dbt's own, where it cannot read the project.
    """
    with suppress(RunnerError):
        check_references(recipe, load_manifest(settings.manifest_path))
        return
    if not freshness.is_current(settings):  # the manifest may be older than the SQL
        with console.step("dbt parse") as step:
            dbt.run(settings, ["parse"], step.update)
    check_references(recipe, load_manifest(settings.manifest_path))


def build_sql(settings: Settings, recipe: Recipe) -> tuple[Manifest, dict[str, Billed]]:
    """Run `dbt build` for the recipe's spine and feature marts; return what dbt then knows.

    And what it was billed, as `dbt.build` returns it.

    A name that dbt does not know would select nothing and pass: `require_fit` comes before.
    """
    with console.step("dbt: build spine and feature marts") as step:
        marts = recipe.feature_marts
        billed = dbt.build(settings, [recipe.spine, *marts], step.update)
        step.update(f"{recipe.spine}, {', '.join(marts)}")
    manifest = load_manifest(settings.manifest_path)
    check_references(recipe, manifest)
    return manifest, billed

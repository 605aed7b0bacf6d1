"""What a recipe needs from dbt: names checked, spine and feature marts built."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from runner import console
from runner.bytes_billed import Billed
from runner.commands.feature_guard import ChangedFeature, require_unchanged
from runner.errors import RunnerError
from runner.project import dbt, freshness
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


def build_sql(settings: Settings, recipe: Recipe, accepted: str = "") -> BuiltSql:
    """Run `dbt build` for the recipe's spine and feature marts.

    A name that dbt does not know would select nothing and pass: `require_fit` comes before. An
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
        marts = recipe.feature_marts
        changed = require_unchanged(settings, [recipe.spine, *marts], accepted, step.update)
        selected = [recipe.spine, *_selectors(settings, recipe, step.update)]
        billed = dbt.build(settings, selected, step.update, full_refresh=bool(changed))
        step.update(f"{recipe.spine}, {', '.join(marts)}")
    manifest = load_manifest(settings.manifest_path)
    check_references(recipe, manifest)
    return BuiltSql(manifest, billed, changed)


def _selectors(settings: Settings, recipe: Recipe, progress: dbt.Progress) -> list[str]:
    """Return what dbt calls the recipe's marts now: `reading.v1` needs `versions:` in the YAML."""
    manifest = load_manifest(settings.manifest_path)
    check_references(recipe, manifest)
    marts = [manifest.marts[name] for name in recipe.feature_marts]
    if any(mart.selector not in {"", mart.name} for mart in marts):
        manifest = dbt.up_to_date(settings, progress)
        check_references(recipe, manifest)
    return [manifest.marts[mart.name].selector or mart.name for mart in marts]

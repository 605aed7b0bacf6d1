"""What a recipe needs from dbt: names checked, spine and feature marts built."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from runner import console
from runner.bytes_billed import Billed
from runner.commands.builds.feature_guard import ChangedFeature, require_unchanged
from runner.commands.builds.last_build import LastBuild
from runner.commands.builds.other_sql import is_built_otherwise
from runner.errors import RunnerError
from runner.project import dbt
from runner.project.build_lock import folder_lock
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
        The features that versions with an alias use and whose definition changed.
    left_out
        Why dbt built nothing; empty: dbt built.
    """

    manifest: Manifest
    billed: dict[str, Billed]
    changed: list[ChangedFeature]
    left_out: str = ""


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
    check_references(recipe, dbt.parsed(settings))  # the manifest may have been older than the SQL


def build_sql(
    settings: Settings, recipe: Recipe, accepted: str = "", *, no_build: bool = False
) -> BuiltSql:
    """Run `dbt build` for the recipe's spine and feature marts, unless it would change nothing.

    A name that dbt does not know would select nothing and pass: `require_fit` comes before. An
    incremental mart that changed, or whose change was undone, is rebuilt from scratch: its old rows
    have another meaning.

    Parameters
    ----------
    accepted
        Why features may change under a served version; empty: they must not.
    no_build
        Take the tables as they are.

    Raises
    ------
    RunnerError
        If dbt would change a feature that a served version takes; nothing is built then. With
        `no_build`, if the tables were built from other SQL than the project has now.
    """
    with console.step("dbt: build spine and feature marts") as step:
        names = [recipe.spine, *recipe.feature_marts]
        changed = require_unchanged(settings, names, accepted, step.update)
        selected = [recipe.spine, *_selectors(settings, recipe, step.update)]
        whole = bool(changed) or is_built_otherwise(settings, names, step.update)
        builds, billed = LastBuild(settings, names), {}
        if no_build:
            other = "" if changed or not whole else "the tables were built from other SQL"
            left_out = _left_out(settings, other or builds.other_sql, selected, step.update)
        else:
            left_out = "" if whole else builds.unneeded()
        if not left_out:
            builds.begin()
            billed = dbt.build(settings, selected, step.update, full_refresh=whole, then=builds.end)
        step.update(f"left out: {left_out}" if left_out else ", ".join(names))
    manifest = load_manifest(settings.manifest_path)
    check_references(recipe, manifest)
    return BuiltSql(manifest, billed, changed, left_out)


def _left_out(
    settings: Settings, other_sql: str, selected: list[str], progress: dbt.Progress
) -> str:
    """Compile the SQL, which is recorded; return why dbt builds nothing: `--no-build`.

    Parameters
    ----------
    other_sql
        Why the tables are not what the project would build; empty: no reason is known.

    Raises
    ------
    RunnerError
        If the tables were built from other SQL, as far as that is known.
    """
    if other_sql:
        raise RunnerError(
            f"--no-build: {other_sql}",
            hint="train without --no-build, which builds what changed",
        )
    with folder_lock(settings) as lock:
        arguments = ["compile", *dbt.upstream_of(selected)]
        dbt.run(settings, arguments, progress, inherited=(lock,))
    return "--no-build"


def _selectors(settings: Settings, recipe: Recipe, progress: dbt.Progress) -> list[str]:
    """Return what dbt calls the marts now: `user_activity.v1` needs `versions:` in the YAML."""
    manifest = load_manifest(settings.manifest_path)
    check_references(recipe, manifest)
    marts = [manifest.marts[name] for name in recipe.feature_marts]
    if any(mart.selector not in {"", mart.name} for mart in marts):
        manifest = dbt.up_to_date(settings, progress)
        check_references(recipe, manifest)
    return [manifest.marts[mart.name].selector or mart.name for mart in marts]

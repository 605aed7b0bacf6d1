"""`runner check`: recipes held against everything they name, without running them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runner import console, dbt
from runner.errors import CombinedError, RunnerError
from runner.estimators import argument_problems
from runner.exposures import write_exposures
from runner.manifest import Manifest, load_manifest
from runner.recipe import load_recipe, require_recipes
from runner.recipe_check import manifest_problems
from runner.settings import Settings


def check(settings: Settings, paths: Sequence[Path]) -> dict[Path, tuple[RunnerError, ...]]:
    """Return what is wrong with each recipe, by its path; nothing where it is right.

    Parameters
    ----------
    paths
        Recipes; empty: every one in the project's folder `recipes`.

    Raises
    ------
    RunnerError
        If there is no recipe, or dbt cannot read the project that they are held against.
    """
    write_exposures(settings)  # now: one of a dbt model that is gone would stop dbt
    paths = paths or require_recipes(settings.root)
    with console.step("dbt parse") as step:
        # Always: by a manifest older than the SQL a wrong recipe might pass.
        dbt.run(settings, ["parse"], step.update)
        manifest = load_manifest(settings.manifest_path)
    return {path: _problems(path, manifest) for path in paths}


def _problems(path: Path, manifest: Manifest) -> tuple[RunnerError, ...]:
    try:
        recipe = load_recipe(path)
        problems = [*manifest_problems(recipe, manifest), *argument_problems(recipe)]
        if problems:
            raise recipe.source.errors(problems)
    except CombinedError as found:
        return found.errors
    except RunnerError as found:
        return (found,)
    return ()

"""`runner check`: recipes held against everything they name, without running them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from pydantic import ValidationError

from runner import console
from runner.commands.builds.unneeded_versions import unneeded_versions
from runner.commands.training.argument_verdicts import ArgumentVerdicts
from runner.errors import CombinedError, RunnerError
from runner.project import dbt
from runner.project.manifest import Manifest
from runner.recipes.arguments import argument_problems
from runner.recipes.recipe import Recipe, load_recipe, recipe_problems
from runner.recipes.recipe_files import require_recipes
from runner.recipes.references import manifest_problems
from runner.recipes.yaml_source import Problem, load_yaml
from runner.settings import Settings

# What cannot be judged while another key is wrong.
_DEPENDENT: Mapping[str, tuple[str, ...]] = {
    "task": (
        "label",
        "estimator",
        "tuning",
        "calibration",
        "decision_threshold",
        "scoring",
        "gate",
        "monitor",
    ),
    "features": ("slices", "feature_overrides", "on_missing_entity"),
    "estimator": ("tuning",),
    "scoring": ("gate", "monitor"),
}
# Right values for what is not judged, so that the rest can be. Nothing in dbt is named so.
_STAND_INS: Mapping[str, object] = {
    "registered_model_name": "x",
    "experiment_name": "x",
    "task": "classification",
    "spine": "__",
    "label": "__",
    "features": ["__:*"],
    "split": {"test": "1d", "embargo": "0d"},
}
_STAND_INS_OF_TASK: Mapping[str, Mapping[str, object]] = {
    "classification": {
        "estimator": {"class_path": "sklearn.dummy.DummyClassifier"},
        "scoring": ["accuracy"],
    },
    "regression": {
        "estimator": {"class_path": "sklearn.dummy.DummyRegressor"},
        "scoring": ["r2"],
    },
}


def check(settings: Settings, paths: Sequence[Path]) -> dict[Path, tuple[RunnerError, ...]]:
    """Return what is wrong with each recipe, by its path; nothing where it is right.

    Parameters
    ----------
    paths
        Recipes. Empty: every one in the project's folder `recipes`, after what is wrong with dbt
        models, by the path of dbt's manifest, whether a recipe uses them or not.

    Raises
    ------
    RunnerError
        If there is no recipe, or dbt cannot read the project that they are held against.
    """
    recipes = paths or require_recipes(settings.root)
    manifest = dbt.parsed(settings)  # by one older than the SQL a wrong recipe might pass
    judge = ArgumentVerdicts(settings)
    checked = {path: recipe_errors(path, manifest, judge.problems) for path in recipes}
    for view in () if paths else unneeded_versions(settings, manifest):
        console.note(f"nobody reads {view}: delete that version from dbt, then runner materialize")
    if paths or not manifest.errors:
        return checked
    return {manifest.path: tuple(chain.from_iterable(manifest.errors.values())), **checked}


def recipe_errors(
    path: Path,
    manifest: Manifest,
    argument_problems: Callable[[Recipe], list[Problem]] = argument_problems,
) -> tuple[RunnerError, ...]:
    """Return everything that is wrong with the recipe at `path`, in the order of the file.

    Parameters
    ----------
    argument_problems
        Returns what is wrong with the arguments of the recipe's estimator.
    """
    try:
        recipe = load_recipe(path)
        problems = [*manifest_problems(recipe, manifest), *argument_problems(recipe)]
        if problems:
            raise recipe.source.errors(problems)
    except RunnerError as err:
        told = err
        if isinstance(err.__cause__, ValidationError):
            told = _with_the_rest(path, err.__cause__, manifest, argument_problems)
        return told.errors if isinstance(told, CombinedError) else (told,)
    return ()


def _with_the_rest(
    path: Path,
    invalid: ValidationError,
    manifest: Manifest,
    argument_problems: Callable[[Recipe], list[Problem]],
) -> RunnerError:
    """Return what is wrong with the recipe's keys, and with what the right ones refer to."""
    source = load_yaml(path)
    problems = recipe_problems(source, invalid)
    wrong = {str(problem.path[0]) for problem in problems}
    unjudged = {*wrong, *(other for key in wrong for other in _DEPENDENT.get(key, ()))}
    rest = {key: value for key, value in source.data.items() if key not in unjudged}
    stand_ins = {**_STAND_INS, **_STAND_INS_OF_TASK[str(rest.get("task", "classification"))]}
    found: list[Problem] = []
    with suppress(ValidationError, RunnerError):  # what is told suffices then
        recipe = Recipe.of(source, {**stand_ins, **rest})
        found += manifest_problems(recipe, manifest)
        found += argument_problems(recipe)
    return source.errors([*problems, *(each for each in found if each.path[0] not in unjudged)])

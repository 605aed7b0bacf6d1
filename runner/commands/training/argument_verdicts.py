"""What scikit-learn said of an estimator's arguments, kept so that it need not be asked again.

Importing scikit-learn takes longer than everything else in `runner check`. Its verdict depends on
the arguments and on the versions of the code that judges: these are the key, and `freshness` sees
to our own.
"""

from __future__ import annotations

import hashlib
import sys
from importlib.metadata import PackageNotFoundError, version

from runner.project.freshness import keep, kept
from runner.recipes.arguments import argument_problems
from runner.recipes.recipe import Recipe
from runner.recipes.yaml_source import Problem
from runner.settings import Settings

_NAME = "arguments"
_DISTRIBUTIONS = ("scikit-learn", "lightgbm", "xgboost", "xgboost-cpu")
_MOST = 500  # verdicts kept; an entry takes a hundred bytes


def require_arguments(settings: Settings, recipe: Recipe) -> None:
    """Raise unless the recipe's estimator takes its arguments, fixed and searched for.

    Raises
    ------
    RunnerError
        With the place of each that it does not take. Or if its library is not installed.
    """
    if problems := ArgumentVerdicts(settings).problems(recipe):
        raise recipe.source.errors(problems)


class ArgumentVerdicts:
    """The verdicts of one project, by digest."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._verdicts = kept(settings, _NAME)

    def problems(self, recipe: Recipe) -> list[Problem]:
        """Return the same as `argument_problems`.

        Raises
        ------
        RunnerError
            If the estimator's library is not installed.
        """
        key = _key(recipe)
        known = self._verdicts.get(key)
        if not isinstance(known, list):
            found = argument_problems(recipe)
            known = [[list(path), message, hint] for path, message, hint in found]
            self._verdicts = {**dict(list(self._verdicts.items())[1 - _MOST :]), key: known}
            keep(self._settings, _NAME, self._verdicts)
        return [Problem(tuple(path), message, hint) for path, message, hint in known]


def _key(recipe: Recipe) -> str:
    space = recipe.tuning.search_space if recipe.tuning else {}
    tried = [(name, each.kind, each.values) for name, each in space.items()]
    asked = repr((recipe.estimator.class_path, recipe.estimator.init_args, tried))
    judges = repr((sys.version_info, [_version(name) for name in _DISTRIBUTIONS]))
    return hashlib.sha256(f"{asked}\0{judges}".encode()).hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""

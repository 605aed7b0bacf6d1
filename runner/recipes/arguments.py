"""The recipe's estimator itself: imported, its arguments checked by its library, and made."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Union, get_args, get_origin, get_type_hints

from runner.recipes.estimators import ESTIMATORS, AllowedEstimator
from runner.recipes.recipe import Recipe
from runner.recipes.served_arguments import not_served
from runner.recipes.yaml_source import KeyPath, Problem
from runner.wording import did_you_mean, show

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

# What every LightGBM of ours is given: not a line on stdout, and the same trees each time. Left to
# itself it times two ways of summing, and takes the quicker one.
_LIGHTGBM_ARGUMENTS = {"verbosity": -1, "deterministic": True, "force_col_wise": True}
# Arguments of XGBoost that want objects of Python, rows beside the training rows, or the columns
# that preprocessing makes; and what means missing, which preprocessing has filled in.
_NOT_IN_RECIPES = {
    *("callbacks", "early_stopping_rounds", "feature_types", "feature_weights", "missing"),
}


def build_estimator(recipe: Recipe) -> BaseEstimator:
    """Return the recipe's estimator, unfitted, with its `init_args` checked by its library.

    Raises
    ------
    RunnerError
        If there is no such argument, or the library does not take its value; every such argument
        is named with its place in the recipe. Or if the library is not installed.
    """
    problems = argument_problems(recipe)
    if problems:
        raise recipe.source.errors(problems)
    always = _LIGHTGBM_ARGUMENTS if _allowed(recipe).module == "lightgbm" else {}
    estimator: BaseEstimator = _class_of(recipe)(**always, **recipe.estimator.init_args)
    return estimator


def fit_errors(recipe: Recipe) -> tuple[type[Exception], ...]:
    """Return what fitting raises when arguments contradict each other or do not suit the rows."""
    if _allowed(recipe).module == "lightgbm":
        from lightgbm.basic import LightGBMError

        return ValueError, LightGBMError
    return (ValueError,)  # XGBoostError is one


def library(recipe: Recipe) -> str:
    """Return the name of the library that fits the recipe's estimator, such as `scikit-learn`."""
    return _allowed(recipe).library


def fitting(recipe: Recipe) -> str:
    """Return what fitting does, in a few words, such as `scikit-learn: fit Ridge`."""
    return f"{library(recipe)}: fit {_allowed(recipe).name}"


def argument_problems(recipe: Recipe) -> list[Problem]:
    """Return the arguments, fixed or searched for, that the estimator does not have or take.

    Raises
    ------
    RunnerError
        If the estimator's library is not installed.
    """
    cls = _class_of(recipe)
    if _allowed(recipe).extra:  # their signatures end in **kwargs
        known = [name for name in cls().get_params() if name not in _NOT_IN_RECIPES]
        wrong_value = _wrong_type
    else:
        known = list(inspect.signature(cls).parameters)
        wrong_value = _wrong_value
    hint = f"{cls.__name__} takes {', '.join(known)}"
    problems = []
    for path, values in _arguments(recipe):
        name = str(path[-1])
        if name not in known:
            problem = f"{cls.__name__} has no such argument{did_you_mean(name, known)}"
            problems.append(Problem(path, problem, hint))
            continue
        for place, value in values.items():
            problem = wrong_value(cls, name, value) or not_served(cls.__name__, name, value)
            if problem:
                problems.append(Problem(path + place, problem, hint))
    return problems


def _arguments(recipe: Recipe) -> Iterator[tuple[KeyPath, dict[KeyPath, object]]]:
    """Yield each argument's path with its values by where they stand below it.

    One that is fixed has one value; one that is searched for, its choices or both ends.
    """
    for name, value in recipe.estimator.init_args.items():
        yield ("estimator", "init_args", name), {(): value}
    for name, distribution in recipe.tuning.search_space.items() if recipe.tuning else ():
        places = ((distribution.kind, i) for i in range(len(distribution.values)))
        yield (
            ("tuning", "search_space", name),
            dict(zip(places, distribution.values, strict=True)),
        )


def _allowed(recipe: Recipe) -> AllowedEstimator:
    return ESTIMATORS[recipe.estimator.class_path]


def _class_of(recipe: Recipe) -> type[BaseEstimator]:
    allowed = _allowed(recipe)
    try:
        module = importlib.import_module(allowed.import_path)
    except (ImportError, OSError) as err:
        if not allowed.extra:
            raise
        missing = isinstance(err, ModuleNotFoundError) and err.name == allowed.module
        reason = "is not installed" if missing else f"cannot be loaded: {err}"
        hint = f"run `pip install 'recipe-runner[{allowed.module}]'`"
        if "libgomp" in str(err):  # LightGBM's wheel expects it of the system
            hint = "install it: `apt-get install libgomp1` on Debian and Ubuntu"
        path = ("estimator", "class_path")
        raise recipe.error(path, f"{allowed.library} {reason}", hint=hint) from err
    found: type[BaseEstimator] = getattr(module, allowed.name)
    return found


def _wrong_value(cls: type[BaseEstimator], name: str, value: object) -> str:
    """Return what is wrong with an argument's value; nothing if scikit-learn takes it."""
    try:
        # All others at their defaults: scikit-learn reports only the first wrong one.
        cls(**{name: value})._validate_params()
    except ValueError as err:
        expected = str(err).partition(" must be ")[2].partition(". Got ")[0]
        return f"expected {_readable(expected)}, got {show(value)}"
    return ""


def _wrong_type(cls: type[BaseEstimator], name: str, value: object) -> str:
    """Return what is wrong with an argument's type, by the annotation; nothing if it fits.

    LightGBM and XGBoost look at values only when they fit.
    """
    hints: dict[str, object] = {}
    for base in reversed(cls.__mro__):  # XGBoost's classifiers leave most to their base's **kwargs
        hints |= get_type_hints(vars(base)["__init__"]) if "__init__" in vars(base) else {}
    united = get_origin(hints[name]) in {Union, UnionType}
    choices = get_args(hints[name]) if united else (hints[name],)
    types = {get_origin(choice) or choice for choice in choices}
    if type(value) in types or (type(value) is int and float in types):
        return ""
    names = {bool: "bool", int: "int", float: "float", str: "str", dict: "dict", list: "list"}
    told = [word for kind, word in names.items() if kind in types]
    told += ["null"] if NoneType in types else []
    return f"expected {' or '.join(told)}, got {show(value)}"


def _readable(expected: str) -> str:
    """Return scikit-learn's description of a parameter in a recipe's words, always the same."""
    expected = re.sub(
        r"an instance of 'bool'( or an instance of 'numpy.bool_?')?", "bool", expected
    )
    expected = re.sub(r"an instance of '(dict|int|list)'", r"\1", expected)
    expected = expected.replace("None", "null")
    return re.sub(r"{(.*?)}", lambda names: ", ".join(sorted(names[1].split(", "))), expected)

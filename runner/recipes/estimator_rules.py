"""Rules of the estimator and of the search for its arguments; each returns what breaks it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from runner.recipes.estimators import ESTIMATORS, names_of
from runner.recipes.problems import NO_ENTRY
from runner.recipes.yaml_source import Problem
from runner.wording import did_you_mean, show

# What may stand beside each kind of distribution in tuning.search_space.
DISTRIBUTION_KEYS: Mapping[str, tuple[str, ...]] = {
    "int": ("int", "log", "step"),
    "float": ("float", "log"),
    "choice": ("choice",),
}
# Arguments that are not searched for, with the reason.
_NOT_TUNED: Mapping[str, str] = {
    "n_jobs": "it does not change the model",
    "random_state": "the best of several seeds is the luckiest",
    "verbose": "it does not change the model",
}


def class_path_problems(class_path: str, task: str | None) -> list[Problem]:
    """Return what is wrong with an estimator that is not on the list, or not for the task."""
    fitting = names_of(ESTIMATORS, task)
    if class_path in fitting:
        return []
    reason = f"is not for {task}" if class_path in ESTIMATORS else "is not on the list"
    # Half of every path is the same: ask for more likeness than usual.
    meant = did_you_mean(class_path, fitting, likeness=0.7)
    hint = "`runner help recipe` lists the estimators"
    return [Problem(("class_path",), f"{show(class_path)} {reason}{meant}", hint)]


def missing_problems(class_path: str, impute: str, encode: str) -> list[Problem]:
    """Return what is wrong if the estimator cannot take the missing values that it is left with."""
    estimator = ESTIMATORS[class_path]
    key, instead = ("numeric.impute: none", "impute: median")
    if impute != "none":
        key, instead = ("categorical.encode: ordinal", "encode: target")
        if encode != "ordinal":
            return []
    if estimator.accepts_nan:
        return []
    others = (name for name, e in ESTIMATORS.items() if e.accepts_nan and e.task == estimator.task)
    problem = f"{estimator.name} takes no missing values, which preprocessing.{key} leaves"
    hint = f"write {instead}, or choose one of {', '.join(others)}"
    return [Problem(("class_path",), problem, hint)]


def search_space_problems(space: Collection[str]) -> list[Problem]:
    """Return what is wrong with a search space in which nothing is searched."""
    return [] if space else [NO_ENTRY]


def tuned_argument_problems(space: Collection[str], fixed: Collection[str]) -> list[Problem]:
    """Return the arguments that are fixed in `init_args` too, or that nobody should search for."""
    problems = []
    for name in space:
        path = ("search_space", name)
        if name in _NOT_TUNED:
            hint = f"fix {name} in estimator.init_args, or leave it out"
            problem = f"is not searched for: {_NOT_TUNED[name]}"
            problems.append(Problem(path, problem, hint))
        elif name in fixed:
            problem = "is fixed in estimator.init_args too"
            problems.append(Problem(path, problem, "delete it there, or here"))
    return problems


def distribution_problems(given: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with a distribution's keys and values; `given` are those it has."""
    kinds = [kind for kind in DISTRIBUTION_KEYS if kind in given]
    if len(kinds) != 1:
        got = " and ".join(kinds) or "none of them"
        hint = "such as {int: [1, 9]}, {float: [0.1, 1.0]} or {choice: [a, b]}"
        return [Problem((), f"expected one of int, float and choice, got {got}", hint)]
    [kind] = kinds
    taken = DISTRIBUTION_KEYS[kind]
    problems = [
        Problem((key,), f"is not for {kind}", f"{kind} takes {', '.join(taken)}")
        for key in given
        if key not in taken
    ]
    check = _choice_problems if kind == "choice" else _range_problems
    return [*problems, *check(kind, given)]


def _choice_problems(kind: str, given: Mapping[str, Any]) -> Iterator[Problem]:
    choices = given[kind]
    if not choices:
        yield NO_ENTRY._replace(path=(kind,))
    for i, choice in enumerate(choices):
        if isinstance(choice, list | dict):
            problem = f"expected text, a number, a flag or null, got {show(choice)}"
            yield Problem((kind, i), problem, "nested values cannot be tried")
        elif any(type(choice) is type(other) and choice == other for other in choices[:i]):
            yield Problem((kind, i), f"{show(choice)} is listed twice", "list it once")


def _range_problems(kind: str, given: Mapping[str, Any]) -> Iterator[Problem]:
    hint = f"write {kind}: [low, high]"
    if len(given[kind]) != 2:
        yield Problem((kind,), f"expected [low, high], got {len(given[kind])} values", hint)
        return
    low, high = given[kind]
    log, step = given.get("log", False), given.get("step", 1)
    if low >= high:
        yield Problem((kind,), f"the low end {low} is not below the high end {high}", hint)
    elif math.isinf(high - low):
        yield Problem((kind,), f"{low} to {high} is wider than a float can hold", hint)
    elif kind == "int" and (high - low) % step:
        last = high - (high - low) % step
        problem = f"{high} is not reached from {low} in steps of {step}"
        yield Problem((kind, 1), problem, f"write {last} or {last + step}")
    if log and low <= 0:
        yield Problem((kind, 0), f"expected a low end above 0 for log, got {low}", "drop log")
    if log and step != 1:
        yield Problem(("step",), "is not for log", "drop log or step")

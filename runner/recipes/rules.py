"""What must hold between the values of a recipe; each rule returns what breaks it.

A rule gets None for a value that is itself wrong, and then does not judge by it: one mistake is
reported once. Paths in the problems start at the value that the rule judges.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from contract.time_rules import zone_names
from runner.recipes.estimators import ESTIMATORS, SCORERS, THRESHOLD_SCORERS, names_of
from runner.recipes.part import IDENTIFIER
from runner.recipes.yaml_source import Problem
from runner.wording import did_you_mean, show

_PROJECTION = r"([.]v[0-9]+)?(\[[A-Za-z_][A-Za-z0-9_]*\])?"  # the version, the role
REFERENCE = f"^[A-Za-z_][A-Za-z0-9_]*{_PROJECTION}:([A-Za-z_][A-Za-z0-9_]*|[*])$"
# What may stand beside each kind of distribution in tuning.search_space.
DISTRIBUTION_KEYS: Mapping[str, tuple[str, ...]] = {
    "int": ("int", "log", "step"),
    "float": ("float", "log"),
    "choice": ("choice",),
}
SLICE = f"^[A-Za-z_][A-Za-z0-9_]*({_PROJECTION}:[A-Za-z_][A-Za-z0-9_]*)?$"
# Arguments that are not searched for, with the reason.
_NOT_TUNED: Mapping[str, str] = {
    "n_jobs": "it does not change the model",
    "random_state": "the best of several seeds is the luckiest",
    "verbose": "it does not change the model",
}
# What people write for scorers whose names in scikit-learn are not like it.
_ALSO_CALLED: Mapping[str, str] = {
    "auprc": "average_precision",
    "brier": "neg_brier_score",
    "mae": "neg_mean_absolute_error",
    "mape": "neg_mean_absolute_percentage_error",
    "mcc": "matthews_corrcoef",
    "mse": "neg_mean_squared_error",
    "pr_auc": "average_precision",
    "rmse": "neg_root_mean_squared_error",
}
_EMPTY = Problem((), "expected at least one entry", "`runner help recipe` describes every key")


def request_problems(request: Sequence[str]) -> list[Problem]:
    """Return the request inputs that are listed twice, or named as a prediction's own columns."""
    problems = []
    for i, name in enumerate(request):
        if name in request[:i]:
            problems.append(Problem((i,), f"{show(name)} is listed twice", "list it once"))
        elif name in {"prediction", "missing_views"} or name.startswith("probability_"):
            problem = f"{show(name)} is the name of a column that `runner predict` writes"
            problems.append(Problem((i,), problem, "rename it in the spine"))
    return problems


def repeated_problems(names: Sequence[str]) -> list[Problem]:
    """Return the names that are listed twice."""
    return [
        Problem((i,), f"{show(name)} is listed twice", "list it once")
        for i, name in enumerate(names)
        if name in names[:i]
    ]


def time_zone_problems(name: str, asked_at: Sequence[str] | None) -> list[Problem]:
    """Return what is wrong with a time zone, which is for `asked_at` only."""
    if asked_at == ():
        hint = "delete it, or list the parts that the model takes, such as `asked_at: [hour]`"
        return [Problem((), "is only for asked_at", hint)]
    if name in zone_names():
        return []
    hint = "write a name of the IANA database, such as Europe/Berlin"
    return [Problem((), f"no time zone {show(name)}{did_you_mean(name, zone_names())}", hint)]


def derived_name_problems(names: Iterable[str]) -> list[Problem]:
    """Return the derived values whose names no SQL could use."""
    return [
        Problem((name,), "expected a name of letters, digits and _", "rename it")
        for name in names
        if re.fullmatch(IDENTIFIER, name) is None
    ]


def reference_problems(features: Sequence[str], *, may_be_empty: bool = False) -> list[Problem]:
    """Return the features that are no Feast references, or are listed twice or with `view:*`."""
    hint = "list each feature once, as `view:feature`, or all of a view as `view:*`"
    if not features and not may_be_empty:
        return [_EMPTY]
    problems = []
    for i, reference in enumerate(features):
        whole_view = reference.partition(":")[0] + ":*"
        if re.fullmatch(REFERENCE, reference) is None:
            problem = f"expected `view:feature` or `view:*`, got {show(reference)}"
            meant = reference.replace(".", ":")
            if re.fullmatch(REFERENCE, meant):
                problem += did_you_mean(reference, [meant])
        elif reference in features[:i]:
            problem = f"{show(reference)} is listed twice"
        elif reference != whole_view and whole_view in features:
            problem = f"{show(reference)} is part of {show(whole_view)}, which is listed too"
        else:
            continue
        problems.append(Problem((i,), problem, hint))
    return problems


def with_view_names(references: Sequence[str]) -> tuple[str, ...]:
    """Return the references with dbt's versions as feature views are called.

    `user_activity.v2:*` is in view `user_activity_v2`, and version 1 in `user_activity`.
    """
    return tuple(map(view_name, references))


def view_name(text: str) -> str:
    """Return a reference, or a view by itself, with dbt's version as the view is called."""
    return re.sub(r"[.]v([0-9]+)(?=[.:[]|$)", lambda v: f"_v{v[1]}" if v[1] != "1" else "", text)


def covers(references: Collection[str], reference: str) -> bool:
    """Return whether `reference`, or all of its view, is among the references."""
    return reference in references or reference.partition(":")[0] + ":*" in references


def class_path_problems(class_path: str, task: str | None) -> list[Problem]:
    """Return what is wrong if the estimator is not on the list or not for the task."""
    fitting = names_of(ESTIMATORS, task)
    if class_path in fitting:
        return []
    reason = f"is not for {task}" if class_path in ESTIMATORS else "is not on the list"
    # Half of every path is the same: ask for more likeness than usual.
    meant = did_you_mean(class_path, fitting, likeness=0.7)
    hint = "`runner help recipe` lists the estimators"
    return [Problem(("class_path",), f"{show(class_path)} {reason}{meant}", hint)]


def missing_problems(class_path: str, impute: str, encode: str) -> list[Problem]:
    """Return what is wrong if preprocessing leaves missing values to an estimator of the list."""
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


def scoring_problems(scoring: Sequence[str], task: str | None) -> list[Problem]:
    """Return the scorers that are not on the list, not for the task, or listed twice."""
    fitting = names_of(SCORERS, task)
    hint = "`runner help recipe` lists the scorers"
    if not scoring:
        return [_EMPTY]
    problems = []
    for i, name in enumerate(scoring):
        if name not in fitting:
            reason = f"is not for {task}" if name in SCORERS else "is not on the list"
            meant = did_you_mean(_ALSO_CALLED.get(name.lower(), name), fitting)
            problems.append(Problem((i,), f"{show(name)} {reason}{meant}", hint))
        elif name in scoring[:i]:
            problems.append(Problem((i,), f"{show(name)} is listed twice", "list it once"))
    return problems


def gate_problems(gate: Mapping[str, float], scoring: Sequence[str] | None) -> list[Problem]:
    """Return the thresholds that are for no scorer of the recipe, or that no model reaches."""
    problems = []
    for name, threshold in gate.items():
        if scoring is None:
            continue
        if name not in scoring:
            problem = f"not among scoring{did_you_mean(name, scoring)}"
            problems.append(Problem((name,), problem, f"scoring is {', '.join(scoring)}"))
        elif threshold > SCORERS[name].best:
            problem = f"no model reaches {threshold:g}; the best {name} is {SCORERS[name].best:g}"
            hint = "scorers are greater-is-better, so losses are negative: write -0.5 for 0.5"
            problems.append(Problem((name,), problem, hint))
    return problems


def min_score_problems(scores: Mapping[str, float], scoring: Sequence[str] | None) -> list[Problem]:
    """Return what is wrong with the least live scores of `monitor`."""
    return [
        problem._replace(path=("min_scores", *problem.path))
        for problem in gate_problems(scores, scoring)
    ]


def search_space_problems(space: Collection[str]) -> list[Problem]:
    """Return what is wrong with a search space in which nothing is searched."""
    return [] if space else [_EMPTY]


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


def classification_problems(task: str | None) -> list[Problem]:
    """Return what is wrong with a key about probabilities in a recipe of another task."""
    if task in {None, "classification"}:
        return []
    return [Problem((), f"is not for {task}", "delete it: only a classification has probabilities")]


def threshold_problems(
    value: float | None, maximize: str | None, *, given_period: bool
) -> list[Problem]:
    """Return what is wrong between the keys of a decision threshold."""
    if (value is None) == (maximize is None):
        got = "none of them" if value is None else "both"
        hint = "such as {value: 0.3} or {maximize: f1, period: 14d}"
        return [Problem((), f"expected one of value and maximize, got {got}", hint)]
    if maximize is None:
        hint = "delete period: a fixed value needs no validation rows"
        return [Problem(("period",), "is not for value", hint)] if given_period else []
    problems = []
    if not given_period:
        problem, hint = "period is missing", "add `period: …`, how long the validation period is"
        problems.append(Problem((), problem, hint))
    if maximize not in THRESHOLD_SCORERS:
        reason = _no_threshold_scorer(maximize)
        hint = f"choose one of {', '.join(THRESHOLD_SCORERS)}"
        problems.append(Problem(("maximize",), f"{show(maximize)} {reason}", hint))
    return problems


def _no_threshold_scorer(name: str) -> str:
    if name not in SCORERS:
        return f"is not on the list{did_you_mean(name, THRESHOLD_SCORERS)}"
    if SCORERS[name].task != "classification":
        return f"is not for classification{did_you_mean(name, THRESHOLD_SCORERS)}"
    if SCORERS[name].probabilities:
        return "looks at probabilities, which no threshold changes"
    return "alone is best where all rows, or hardly any, are predicted to be of the second class"


def slice_problems(slices: Sequence[str], features: Sequence[str] | None) -> list[Problem]:
    """Return the slices that are no columns, are listed twice, or are no features of the recipe."""
    hint = "list each slice once: a column of the spine, or `view:feature` of the features"
    problems = []
    for i, name in enumerate(slices):
        if re.fullmatch(SLICE, name) is None:
            problem = f"expected a column of the spine or `view:feature`, got {show(name)}"
        elif name in slices[:i]:
            problem = f"{show(name)} is listed twice"
        elif ":" in name and features is not None and not covers(features, name):
            problem = f"{show(name)} is not among features{did_you_mean(name, features)}"
        else:
            continue
        problems.append(Problem((i,), problem, hint))
    return problems


def override_problems(overrides: Sequence[str], features: Sequence[str] | None) -> list[Problem]:
    """Return the overrides that are no references, are listed twice, or are no features."""
    if not overrides:
        return []
    problems = reference_problems(overrides)
    wrong = {problem.path for problem in problems}
    hint = "list what `features` lists, or features of a view that it lists as `view:*`"
    for i, reference in enumerate(overrides):
        if (i,) in wrong or features is None or covers(features, reference):
            continue
        problem = f"{show(reference)} is not among features{did_you_mean(reference, features)}"
        problems.append(Problem((i,), problem, hint))
    return sorted(problems, key=lambda problem: problem.path)


def missing_entity_problems(
    rules: Collection[str], features: Sequence[str] | None
) -> list[Problem]:
    """Return the views of `on_missing_entity` that no feature is of."""
    if features is None:
        return []
    views = list(dict.fromkeys(reference.partition(":")[0] for reference in features))
    return [
        Problem(
            (name,),
            f"no feature is of {show(name)}{did_you_mean(name, views)}",
            f"choose one of {', '.join(views)}" if views else "delete it",
        )
        for name in rules
        if view_name(name) not in views
    ]


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
        yield _EMPTY._replace(path=(kind,))
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
        yield Problem((kind,), f"{low} to {high} is wider than numbers go", hint)
    elif kind == "int" and (high - low) % step:
        last = high - (high - low) % step
        problem = f"{high} is not reached from {low} in steps of {step}"
        yield Problem((kind, 1), problem, f"write {last} or {last + step}")
    if log and low <= 0:
        yield Problem((kind, 0), f"expected a low end above 0 for log, got {low}", "drop log")
    if log and step != 1:
        yield Problem(("step",), "is not for log", "drop log or step")

"""Rules of scorers, least scores and probabilities; each returns what breaks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runner.recipes.estimators import SCORERS, THRESHOLD_SCORERS, names_of
from runner.recipes.problems import NO_ENTRY
from runner.recipes.yaml_source import Problem
from runner.wording import did_you_mean, show

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


def scoring_problems(scoring: Sequence[str], task: str | None) -> list[Problem]:
    """Return the scorers that are not on the list, not for the task, or listed twice."""
    fitting = names_of(SCORERS, task)
    hint = "`runner help recipe` lists the scorers"
    if not scoring:
        return [NO_ENTRY]
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
    return "alone is best when every row, or hardly any, is predicted as the second class"

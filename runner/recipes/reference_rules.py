"""Rules of Feast references, in `features` and in the keys that choose among them.

Each rule returns what breaks it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from runner.recipes.problems import NO_ENTRY
from runner.recipes.yaml_source import Problem
from runner.wording import did_you_mean, show

_PROJECTION = r"([.]v[0-9]+)?(\[[A-Za-z_][A-Za-z0-9_]*\])?"  # the version, the role
REFERENCE = f"^[A-Za-z_][A-Za-z0-9_]*{_PROJECTION}:([A-Za-z_][A-Za-z0-9_]*|[*])$"
SLICE = f"^[A-Za-z_][A-Za-z0-9_]*({_PROJECTION}:[A-Za-z_][A-Za-z0-9_]*)?$"


def reference_problems(features: Sequence[str], *, may_be_empty: bool = False) -> list[Problem]:
    """Return the features that are not Feast references, or are listed twice or with `view:*`."""
    hint = "list each feature once, as `view:feature`, or all of a view as `view:*`"
    if not features and not may_be_empty:
        return [NO_ENTRY]
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


def slice_problems(slices: Sequence[str], features: Sequence[str] | None) -> list[Problem]:
    """Return the slices that are not columns, are listed twice, or are not among the features."""
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
    """Return the overrides that are not references, are listed twice, or not among the features."""
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

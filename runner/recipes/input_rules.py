"""Rules of request inputs, `asked_at` and derived values; each returns what breaks it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from contract.time_rules import zone_names
from runner.recipes.part import IDENTIFIER
from runner.recipes.yaml_source import Problem
from runner.wording import did_you_mean, show


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

"""The recipe's `on_missing_entity`: one rule for every view, or a rule by view."""

from __future__ import annotations

from typing import Annotated, cast

from pydantic import PlainValidator, WithJsonSchema

from contract.missing_views import ORDER, OnMissing
from runner.recipes.problems import refuse
from runner.recipes.yaml_source import Problem
from runner.wording import show

MissingRules = OnMissing | dict[str, OnMissing]


def _rules(value: object) -> MissingRules:
    """Return the rules; `null` is a rule, with quotes or without."""
    given = value if isinstance(value, dict) else {"": value}
    rules = {name: "null" if rule is None else rule for name, rule in given.items()}
    refuse(
        [
            Problem(
                (name,) if isinstance(value, dict) else (),
                f"expected predict, null or error, got {show(given[name])}",
                "write one of them for every view, or by view, such as {user_activity: error}",
            )
            for name, rule in rules.items()
            if rule not in ORDER
        ]
    )
    checked = cast("dict[str, OnMissing]", rules)
    return checked if isinstance(value, dict) else checked[""]


_ONE = {"enum": [*ORDER, None]}
OnMissingEntity = Annotated[
    MissingRules,
    PlainValidator(_rules),
    WithJsonSchema({"anyOf": [_ONE, {"type": "object", "additionalProperties": _ONE}]}),
]

"""What pydantic finds wrong with a recipe, in the recipe's own words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from runner.recipes.yaml_source import KeyPath, Problem
from runner.wording import did_you_mean, show

# What a value should have been, by pydantic's name for what is wrong with it.
_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "`key: value` lines",
    "float_type": "a number",
    "greater_than_equal": "{ge} or more",
    "int_type": "a whole number",
    "less_than_equal": "{le} or less",
    "literal_error": "{expected}",
    "model_type": "`key: value` lines",
    "string_too_long": "at most {max_length} characters",
    "string_type": "text",
    "tuple_type": "a list",
}
_HINT = "`runner help recipe` describes every key"
NO_ENTRY = Problem((), "expected at least one entry", _HINT)
# Where YAML of another kind, or quotes, would have made of a value what was expected.
_HINTS = {
    "bool_type": "write true or false, without quotes",
    "float_type": "write digits, without quotes",
    "int_type": "write digits only, without quotes",
}


class ProblemsError(ValueError):
    """Raised by a validator that finds several problems; their paths start at its value."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__()
        self.problems = problems


def refuse(problems: list[Problem]) -> None:
    """Raise the problems as one error, if there are any."""
    if problems:
        raise ProblemsError(problems)


def problems_of(error: ValidationError, model: type[BaseModel]) -> Iterator[Problem]:
    """Yield every problem that pydantic found while it validated a `model`."""
    for details in error.errors(include_url=False):
        path: KeyPath = details["loc"]
        cause = details.get("ctx", {}).get("error")
        if isinstance(cause, ProblemsError):
            yield from (problem._replace(path=path + problem.path) for problem in cause.problems)
        else:
            yield _problem(details, path, model)


def _problem(details: ErrorDetails, path: KeyPath, model: type[BaseModel]) -> Problem:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        known = _known_keys(path, model)
        meant = did_you_mean(str(path[-1]), known)
        return Problem(path, f"unknown key{meant}", f"known here: {', '.join(known)}")
    if kind == "missing":
        return Problem(path, "missing", f"add `{path[-1]}: …`; {_HINT}")
    if kind == "value_error":
        return Problem(path, str(context["error"]), _HINT)
    expected = _EXPECTED[kind].format(**context)
    hint = _HINTS.get(kind, _HINT)
    return Problem(path, f"expected {expected}, got {show(details['input'])}", hint)


def _known_keys(path: KeyPath, model: type[BaseModel]) -> list[str]:
    """Return the keys that stand beside the one at `path`."""
    above = iter(path[:-1])
    for key in above:
        annotation = keys_of(model)[str(key)].annotation
        model = cast("type[BaseModel]", part_in(annotation))
        if get_origin(annotation) is dict:
            next(above)  # its keys are the user's own
    return list(keys_of(model))


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the model's fields by the keys that recipes write."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def part_in(annotation: object) -> type[BaseModel] | None:
    """Return the part of a recipe that a field of this type holds, itself or as values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((part for each in get_args(annotation) if (part := part_in(each))), None)

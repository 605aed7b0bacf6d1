"""What the parts of a recipe are made of: their base class, names and durations."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

from runner import duration
from runner.wording import show

IDENTIFIER = "^[A-Za-z_][A-Za-z0-9_]*$"
_NAME = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"


def _duration(value: object) -> timedelta:
    if not isinstance(value, str):
        raise ValueError(f"expected a duration such as 7d, got {show(value)}")  # noqa: TRY004
    return duration.parse_duration(value)


def _positive(value: timedelta) -> timedelta:
    if not value:
        raise ValueError("expected a duration longer than 0")
    return value


def _matches(pattern: str, expected: str) -> AfterValidator:
    def check(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(f"expected {expected}, got {show(value)}")
        return value

    return AfterValidator(check)


Identifier = Annotated[
    str,
    _matches(IDENTIFIER, "a name of letters, digits and _"),
    Field(json_schema_extra={"pattern": IDENTIFIER}),
]
Name = Annotated[
    str,
    _matches(_NAME, "up to 100 letters, digits, _, - and ., the first a letter or digit"),
    Field(json_schema_extra={"pattern": _NAME}),
]
Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(duration.format_duration),
    WithJsonSchema({"type": "string", "pattern": duration.PATTERN, "examples": ["7d", "12h"]}),
]
PositiveDuration = Annotated[Duration, AfterValidator(_positive)]


class Part(BaseModel):
    """A part of a recipe. The text below a key describes it, in editors too."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

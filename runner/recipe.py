"""The recipe: one YAML file per ML model, checked as a whole before anything runs.

It says what to predict from what, and nothing of where: no address, no environment.
`docs/recipe.md` describes every key.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from runner import duration
from runner.errors import RunnerError
from runner.estimators import ESTIMATORS, SCORERS, Task
from runner.recipe_errors import problems_of, refuse
from runner.recipe_rules import (
    REFERENCE,
    class_path_problems,
    gate_problems,
    reference_problems,
    scoring_problems,
)
from runner.wording import did_you_mean, show
from runner.yaml_source import KeyPath, YamlSource, load_yaml

_IDENTIFIER = "^[A-Za-z_][A-Za-z0-9_]*$"
_NAME = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
_FILE_NAME = "[A-Za-z0-9][A-Za-z0-9_.-]*[.]ya?ml"


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
    _matches(_IDENTIFIER, "a name of letters, digits and _"),
    Field(json_schema_extra={"pattern": _IDENTIFIER}),
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


class _Part(BaseModel):
    """A part of a recipe. The text below a key describes it, in editors too."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


class Split(_Part):
    """How rows are divided by time into training and test rows."""

    test: Annotated[Duration, AfterValidator(_positive)]
    """How long the test period is: the newest rows of the spine."""
    embargo: Duration
    """How long before the test period rows are not used, so that no training label is decided
    inside it. At least the label's window."""


class Numeric(_Part):
    """What happens to numbers and flags."""

    impute: Literal["median", "mean", "zero"] = "median"
    """What a missing value becomes: the median or mean of the training rows, or 0."""
    scale: Literal["auto", "standard", "none"] = "auto"
    """`standard`: to mean 0 and deviation 1. `auto`: if the estimator wants it; linear models,
    neighbours and networks do, trees do not."""


class Categorical(_Part):
    """What happens to text."""

    encode: Literal["onehot"] = "onehot"
    """One column per category; a missing value is a category of its own."""
    min_frequency: Annotated[int, Field(ge=1)] = 20
    """How many training rows make a category. A rarer or unseen one becomes all zeros."""


class Preprocessing(_Part):
    """What happens to features before the estimator, by their type."""

    numeric: Numeric = Numeric()
    """Numbers and flags."""
    categorical: Categorical = Categorical()
    """Text."""


class Estimator(_Part):
    """A scikit-learn estimator and its arguments."""

    class_path: Annotated[str, Field(json_schema_extra={"enum": list(ESTIMATORS)})]
    """One of the estimators that docs/recipe.md lists."""
    init_args: dict[str, Any] = {}
    """Its arguments by scikit-learn's names. The others keep scikit-learn's defaults."""


class Recipe(_Part):
    """What to predict, from which features, with which estimator, and how good it must be."""

    registered_model_name: Name
    """The model's name in MLflow's registry."""
    experiment_name: Name
    """The MLflow experiment that its runs belong to."""
    description: Annotated[str, Field(max_length=2000)] = ""
    """What the model is for, in a sentence or two."""
    task: Task
    """Whether a class or a number is predicted."""
    spine: Identifier
    """The dbt model of entity keys, `event_timestamp` and labels."""
    label: Identifier
    """The column of the spine to predict; one of its `meta.labels`."""
    features: Annotated[
        tuple[Annotated[str, Field(json_schema_extra={"pattern": REFERENCE})], ...],
        Field(strict=False, json_schema_extra={"minItems": 1}),
    ]
    """Feast references: `view:feature`, or `view:*` for every feature of a feature mart."""
    split: Split
    """How rows are divided by time."""
    preprocessing: Preprocessing = Preprocessing()
    """What happens to features before the estimator. Missing keys keep their defaults."""
    estimator: Estimator
    """What is fitted."""
    scoring: Annotated[
        tuple[Annotated[str, Field(json_schema_extra={"enum": list(SCORERS)})], ...],
        Field(strict=False, json_schema_extra={"minItems": 1}),
    ]
    """scikit-learn's names of scorers, all greater-is-better. The first is the primary one."""
    gate: Annotated[
        dict[str, float], Field(json_schema_extra={"propertyNames": {"enum": list(SCORERS)}})
    ] = {}
    """The least score on the test rows, by scorer. A model below one is registered, but does not
    become the `champion`."""

    _source: YamlSource = PrivateAttr()

    @property
    def source(self) -> YamlSource:
        """The file it was read from, with the place of every value."""
        return self._source

    @property
    def path(self) -> Path:
        """The file it was read from."""
        return self._source.path

    @property
    def name(self) -> str:
        """The file's name without its suffix, also the name of its Feast feature service."""
        return self.path.stem

    def error(self, path: KeyPath, message: str, hint: str) -> RunnerError:
        """Return the error that says `file:line:column: key: message`."""
        return self._source.error(path, message, hint)

    def dump(self) -> dict[str, Any]:
        """Return the recipe in JSON's types, every default written out. It loads as itself."""
        return self.model_dump(mode="json")

    @field_validator("features")
    @classmethod
    def _check_features(cls, features: tuple[str, ...]) -> tuple[str, ...]:
        refuse(reference_problems(features))
        return features

    @field_validator("estimator")
    @classmethod
    def _check_estimator(cls, estimator: Estimator, info: ValidationInfo) -> Estimator:
        refuse(class_path_problems(estimator.class_path, info.data.get("task")))
        return estimator

    @field_validator("scoring")
    @classmethod
    def _check_scoring(cls, scoring: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        refuse(scoring_problems(scoring, info.data.get("task")))
        return scoring

    @field_validator("gate")
    @classmethod
    def _check_gate(cls, gate: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        refuse(gate_problems(gate, info.data.get("scoring")))
        return gate


def load_recipe(path: Path, *, shown_as: Path | None = None) -> Recipe:
    """Return the recipe in the file at `path`.

    Parameters
    ----------
    shown_as
        The path that errors name, where the file is a copy that does not last.

    Raises
    ------
    RunnerError
        One for all that is wrong, each as `file:line:column: key: what was expected`.
    """
    if re.fullmatch(_FILE_NAME, path.name) is None:
        raise RunnerError(
            f"{path}: not a recipe's file name",
            hint="name a .yaml file of letters, digits, _, - and ., such as recipes/rf.yaml",
        )
    if not path.is_file():
        there = [str(other) for other in sorted(path.parent.glob("*.y*ml"))]
        raise RunnerError(
            f"{path}: no such file{did_you_mean(str(path), there)}",
            hint=f"recipes there: {', '.join(there) or 'none'}; docs/recipe.md shows one",
        )
    source = replace(load_yaml(path), path=shown_as or path)
    try:
        recipe = Recipe.model_validate(source.data)
    except ValidationError as err:
        raise source.errors(list(problems_of(err, Recipe))) from err
    recipe._source = source
    return recipe

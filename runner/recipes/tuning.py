"""The recipe's part `tuning`: which of the estimator's arguments are searched for, and how long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from runner.recipes.estimator_rules import (
    DISTRIBUTION_KEYS,
    distribution_problems,
    search_space_problems,
)
from runner.recipes.part import Part, PositiveDuration
from runner.recipes.problems import refuse

_BOUNDS = {"minItems": 2, "maxItems": 2}


class Distribution(Part):
    """What one argument may become: exactly one of `int`, `float` and `choice`."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [kind]} for kind in DISTRIBUTION_KEYS]}
    )

    int_: Annotated[
        tuple[int, ...], Field(alias="int", strict=False, json_schema_extra={**_BOUNDS})
    ] = ()
    """A whole number: `[low, high]`, both included."""
    float_: Annotated[
        tuple[float, ...], Field(alias="float", strict=False, json_schema_extra={**_BOUNDS})
    ] = ()
    """A number: `[low, high]`, both included."""
    choice: Annotated[tuple[Any, ...], Field(strict=False, json_schema_extra={"minItems": 1})] = ()
    """One of these texts, numbers, flags or null."""
    log: bool = False
    """For `int` and `float`: as many trials from 1 to 10 as from 10 to 100."""
    step: Annotated[int, Field(ge=1)] = 1
    """For `int`: only low, low + step, low + 2 steps and so on."""

    @property
    def kind(self) -> str:
        """The key that is given: `int`, `float` or `choice`."""
        return next(key for key in DISTRIBUTION_KEYS if key in self._given)

    @property
    def values(self) -> tuple[Any, ...]:
        """The choices, or the two ends of the range."""
        return tuple(self._given[self.kind])

    @property
    def _given(self) -> Mapping[str, Any]:
        fields = type(self).model_fields
        return {fields[name].alias or name: getattr(self, name) for name in self.model_fields_set}

    @model_validator(mode="after")
    def _check(self) -> Distribution:
        refuse(distribution_problems(self._given))
        return self

    @model_serializer(mode="wrap")
    def _dump(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        keys = DISTRIBUTION_KEYS[self.kind]
        return {key: value for key, value in handler(self).items() if key in keys}


class Tuning(Part):
    """How the estimator's arguments are searched for, with Optuna."""

    n_trials: Annotated[int, Field(ge=1, le=10_000)]
    """How many settings of the arguments are tried."""
    timeout: PositiveDuration | None = None
    """After this time no further trial begins, and the best so far is taken; one is always
    finished."""
    folds: Annotated[int, Field(ge=1, le=20)] = 3
    """How many validation periods each trial is scored on. They follow each other inside the
    training rows. For each, the model is fitted on the rows before it, less the embargo."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """The sampler's seed: the same seed and rows give the same trials."""
    search_space: Annotated[dict[str, Distribution], Field(json_schema_extra={"minProperties": 1})]
    """What is tried for each of the estimator's arguments; scikit-learn checks each value."""

    @field_validator("search_space")
    @classmethod
    def _check_search_space(cls, space: dict[str, Distribution]) -> dict[str, Distribution]:
        refuse(search_space_problems(space))
        return space

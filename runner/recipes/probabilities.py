"""The recipe's parts `calibration` and `decision_threshold`: what probabilities become."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from runner.recipes.estimators import THRESHOLD_SCORERS
from runner.recipes.part import Part, PositiveDuration
from runner.recipes.problems import refuse
from runner.recipes.score_rules import threshold_problems


class Calibration(Part):
    """How the estimator's scores are made to mean what they say, on rows it has not seen."""

    method: Literal["sigmoid", "isotonic"]
    """`sigmoid`: a logistic curve, for few rows. `isotonic`: any rising line, for thousands."""
    period: PositiveDuration
    """How long the calibration period is: the rows that follow the training rows."""


class DecisionThreshold(Part):
    """The least probability of the second of two classes at which it is predicted."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["value"]}, {"required": ["maximize", "period"]}],
        }
    )

    value: Annotated[float | None, Field(ge=0, le=1)] = None
    """The threshold itself, from 0 to 1."""
    maximize: Annotated[
        str | None, Field(json_schema_extra={"enum": [*THRESHOLD_SCORERS, None]})
    ] = None
    """The scorer that the threshold is chosen for, on validation rows."""
    period: PositiveDuration | None = None
    """How long the validation period is, for `maximize`: rows before the test period that neither
    train nor calibrate the model."""

    @model_validator(mode="after")
    def _check(self) -> DecisionThreshold:
        refuse(threshold_problems(self.value, self.maximize, given_period=self.period is not None))
        return self

    @model_serializer(mode="wrap")
    def _dump(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return {key: value for key, value in handler(self).items() if value is not None}

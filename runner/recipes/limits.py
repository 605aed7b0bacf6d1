"""The recipe's part `monitor`: what `runner monitor` accepts, and what it compares with."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from runner.recipes.estimators import SCORERS
from runner.recipes.part import Part, PositiveDuration

Share = Annotated[float, Field(ge=0, le=1)]
Season = Literal["weekday", "month"]


class MonitorLimits(Part):
    """The limits of `runner monitor`; one that is left out is not checked."""

    max_drift: Share | None = None
    """The largest drift of a feature or the prediction on a day or in the window, from 0 to 1.
    Only a drift that is more than chance breaks it."""
    min_scores: Annotated[
        dict[str, float], Field(json_schema_extra={"propertyNames": {"enum": list(SCORERS)}})
    ] = {}  # noqa: RUF012 - pydantic copies it
    """The least live score, by scorer. It is broken if the entire 95% CI is below it."""
    max_missing: Share | None = None
    """The largest share of a day's rows for which a feature may be missing or expired."""
    max_age: PositiveDuration | None = None
    """How old the rows of a feature view may be when they are read, on average on a day."""
    max_skew: Share | None = None
    """The largest share of a feature's compared values that may differ from the point-in-time
    join."""

    compare_by: Season | None = None
    """Compares each day with the training rows of the same weekday, or of the same month, in UTC.
    Without it, with all training rows."""

    @model_serializer(mode="wrap")
    def _dump(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return {key: value for key, value in handler(self).items() if value not in (None, {})}

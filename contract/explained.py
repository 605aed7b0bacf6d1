"""How a bundle's predictions are explained, with which files; or why they cannot be."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

Kind = Literal["linear", "trees"]
Space = Literal["log_odds", "class_score", "probability", "label", "log_label"]
REQUEST_STEPS = 3_000_000
"""Requests do not explain models with more steps per row; this many take 12 ms."""


@dataclass(frozen=True)
class BundleExplanation:
    """How a model's scores are explained by its inputs.

    Attributes
    ----------
    unavailable
        Why answers cannot be explained; empty if they can. If not, the other attributes mean
        nothing.
    space
        What the contributions add up to: the log-odds of the second class; each class's score
        before the softmax; probabilities; the label; its logarithm.
    calibrated
        Whether the model is calibrated: contributions explain the score before calibration.
    kind
        How the contributions are computed.
    steps
        The work that a row is: d (d + 1) / 2 for each leaf whose path looks at d columns; 0 of a
        linear model.
    arrays
        The file of the model's numbers.
    preprocessing
        The file that turns model inputs into the estimator's columns; empty: the model's own
        file does.
    """

    unavailable: str = ""
    space: Space = "label"
    calibrated: bool = False
    kind: Kind = "linear"
    steps: Annotated[int, Field(ge=0)] = 0
    arrays: str = ""
    preprocessing: str = ""

    @property
    def score(self) -> str:
        """What the contributions add up to, as clients and files name it."""
        return f"uncalibrated_{self.space}" if self.calibrated else self.space

    @property
    def in_requests(self) -> bool:
        """Whether requests may ask for explanations."""
        return not self.unavailable and self.steps <= REQUEST_STEPS

    def problems(self, files: Collection[str], model_format: str) -> list[str]:
        """Return what contradicts the bundle's files."""
        if self.unavailable:
            return []
        own = [] if model_format == "skops" and not self.preprocessing else [self.preprocessing]
        missing = [name for name in (self.arrays, *own) if name not in files]
        return [f"explanation: no digest of {name or 'its file'}" for name in missing]

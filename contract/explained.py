"""What a bundle says of explanations: what is explained, with which files, or why nothing is."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

Space = Literal["log_odds", "class_score", "probability", "label", "log_label"]
REQUEST_LEAVES = 100_000
"""Models of more leaves are not explained in requests: a row takes 13 ms of so many."""


@dataclass(frozen=True)
class BundleExplanation:
    """How a model's scores are explained by its inputs.

    Attributes
    ----------
    unavailable
        Why they are not; empty if they are, and only then the others count.
    space
        What the contributions add up to: the log-odds of the second class; each class's score
        before the softmax; probabilities; the label; its logarithm.
    calibrated
        Whether a calibration follows, which is not explained.
    kind
        How the contributions are computed.
    leaves
        How many leaves the trees have, 0 of a linear model: the work that a row is.
    arrays
        The file of the model's numbers.
    preprocessing
        The file that makes the estimator's columns of the model inputs; empty: the model's own
        file does.
    """

    unavailable: str = ""
    space: Space = "label"
    calibrated: bool = False
    kind: Literal["linear", "trees"] = "linear"
    leaves: Annotated[int, Field(ge=0)] = 0
    arrays: str = ""
    preprocessing: str = ""

    @property
    def score(self) -> str:
        """What the contributions add up to, as clients and files name it."""
        return f"uncalibrated_{self.space}" if self.calibrated else self.space

    @property
    def in_requests(self) -> bool:
        """Whether requests may ask for explanations."""
        return not self.unavailable and self.leaves <= REQUEST_LEAVES

    def problems(self, files: Collection[str], model_format: str) -> list[str]:
        """Return what contradicts the bundle's files."""
        if self.unavailable:
            return []
        own = [] if model_format == "skops" and not self.preprocessing else [self.preprocessing]
        missing = [name for name in (self.arrays, *own) if name not in files]
        return [f"explanation: no digest of {name or 'its file'}" for name in missing]

"""Explanations beside the predictions of `runner predict`: a column per input, or one of JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from contract.explainer import Explained, Explainer

Mask = npt.NDArray[np.bool_]


class ExplanationOutput(Protocol):
    """How explanations are written."""

    @property
    def names(self) -> Sequence[str]:
        """The columns that are written."""

    def columns(self, found: Explained, unanswered: Mask) -> Sequence[pa.Array]:
        """Return those columns; rows without a prediction have no explanation."""


class ExplanationColumns:
    """`base_value` and `contribution_<input>`; with several outputs, both for each class."""

    def __init__(self, explainer: Explainer) -> None:
        classes = [f"_{name}" for name in explainer.classes] or [""]
        self.names = [
            name
            for one in classes
            for name in (
                f"base_value{one}",
                *(f"contribution{one}_{given}" for given in explainer.inputs),
            )
        ]

    def columns(self, found: Explained, unanswered: Mask) -> Sequence[pa.Array]:
        """See `ExplanationOutput`."""
        arrays = []
        for base, contributions in zip(
            found.base_values, np.moveaxis(found.contributions, 2, 0), strict=True
        ):
            numbers = [np.full(len(unanswered), base), *contributions.T]
            arrays += [pa.array(column, mask=unanswered) for column in numbers]
        return arrays


class ExplanationText:
    """`explanation`: JSON as in an answer of the API, whatever inputs a model has."""

    names = ("explanation",)

    def __init__(self, explainer: Explainer) -> None:
        self._explainer = explainer

    def columns(self, found: Explained, unanswered: Mask) -> Sequence[pa.Array]:
        """See `ExplanationOutput`."""
        texts = [
            orjson.dumps(self._explainer.answer(found, row)).decode()
            for row in range(len(unanswered))
        ]
        return [pa.array(texts, pa.string(), mask=unanswered)]

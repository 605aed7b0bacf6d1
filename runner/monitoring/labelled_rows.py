"""Labelled rows as arrays: what live scores are computed from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Texts = npt.NDArray[np.str_]


class LabelledRows(NamedTuple):
    """Labelled rows, column by column.

    Attributes
    ----------
    slices
        Shape (n_rows, n_slices): the values of the slices that were asked for.
    """

    days: Texts
    entities: Texts
    labels: Texts
    predictions: Texts
    probabilities: npt.NDArray[np.float64]
    slices: Texts

    def of(self, rows: npt.NDArray[np.bool_]) -> LabelledRows:
        """Return some of the rows."""
        texts = (part[rows] for part in (self.days, self.entities, self.labels, self.predictions))
        days, entities, labels, predictions = texts
        numbers, slices = self.probabilities[rows], self.slices[rows]
        return LabelledRows(days, entities, labels, predictions, numbers, slices)

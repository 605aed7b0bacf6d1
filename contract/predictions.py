"""What a model says: its predictions as arrays, whichever format it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from contract.bundle import Bundle
from contract.tensors import Tensor


@dataclass(frozen=True)
class Predictions:
    """What a model says about n_rows rows.

    Attributes
    ----------
    labels
        Shape (n_rows,): the predicted class (int64 or str), or the value (float64) for a
        regression.
    probabilities
        Shape (n_rows, n_classes), columns in the order of `label.classes`; None for a
        regression.
    """

    labels: Tensor
    probabilities: npt.NDArray[np.float32] | npt.NDArray[np.float64] | None


def class_labels(probabilities: Tensor, classes: Sequence[int | str], threshold: float) -> Tensor:
    """Return the class of each row: the second of two where its probability reaches `threshold`.

    Parameters
    ----------
    probabilities
        Shape (n_rows, 2). Compared as float32, which is what callers see.

    Returns
    -------
    ndarray of shape (n_rows,)
        int64 or str, as `classes` are.
    """
    reached = probabilities[:, 1].astype(np.float32) >= np.float32(threshold)
    return np.array(classes)[reached.astype(np.intp)]


def decided(bundle: Bundle, labels: Tensor, probabilities: Any) -> Predictions:
    """Return a classification's predictions; with a decision threshold, that gives the labels."""
    threshold, classes = bundle.label.decision_threshold, bundle.label.classes
    if threshold is not None and classes is not None:
        labels = class_labels(probabilities, classes, threshold)
    return Predictions(labels, probabilities)


def no_predictions(bundle: Bundle) -> Predictions:
    """Return the predictions for no rows."""
    classes = bundle.label.classes
    if classes is None:
        return Predictions(np.empty(0), None)
    return Predictions(np.array(classes)[:0], np.empty((0, len(classes)), dtype=np.float32))

"""Exact SHAP values of linear models: how much each column moves a row's score from the mean."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class LinearArrays(NamedTuple):
    """A linear model.

    Attributes
    ----------
    coefficients
        Shape (n_outputs, n_columns).
    intercepts
        Shape (n_outputs,).
    means
        Of the training rows, shape (n_columns,).
    """

    coefficients: Floats
    intercepts: Floats
    means: Floats


class LinearContributions:
    """Computes what each input of a linear model contributes to its scores.

    A column contributes its coefficient times its distance from the mean: its SHAP value where
    columns that are not known are drawn from the training rows independently of the others.

    Parameters
    ----------
    model
        The model.
    owner
        The model input that each column was made from, shape (n_columns,).

    Attributes
    ----------
    steps
        0: a linear model has none.
    base_value
        The mean score of the training rows, shape (n_outputs,).
    """

    steps = 0

    def __init__(self, model: LinearArrays, owner: npt.NDArray[np.intp]) -> None:
        self._model = model
        self._is_made_from = np.eye(owner.max() + 1)[owner]
        self.base_value = model.coefficients @ model.means + model.intercepts

    def of(self, X: npt.NDArray[np.float32]) -> Floats:
        """Return the contributions to the scores of rows, shape (n_rows, n_inputs, n_outputs)."""
        away = X - self._model.means
        per_output = [away * one @ self._is_made_from for one in self._model.coefficients]
        return np.stack(per_output, axis=-1)

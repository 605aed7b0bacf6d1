"""A bundle's model, loaded: rows or columns in, predictions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from contract.bundle import Bundle
from contract.columns import Column
from contract.onnx_model import load_onnx
from contract.predictions import Predictions
from contract.serving_errors import BundleError
from contract.skops_model import load_skops
from contract.tensors import Numbers, Row


class Model(Protocol):
    """A loaded model."""

    bundle: Bundle
    quick: bool
    """Whether one row is scored in microseconds, so that it need not leave the event loop."""

    def score(self, columns: Mapping[str, Column]) -> Predictions:
        """Return the predictions for columns of equal length, by the names of `row_dtypes`.

        Computed columns are computed; they take the instant from `event_timestamp`.

        A column is a list or a NumPy, pandas or Arrow array; nulls are None, NaN or the
        library's own.
        """

    def score_rows(self, rows: Sequence[Row] | Numbers) -> Predictions:
        """Return the predictions for rows of values in the order of `bundle.column_dtypes`.

        An array, of shape (n_rows, n_columns), if every column is a float64 and none is missing.
        """


def load_model(bundle: Bundle) -> Model:
    """Return the bundle's model, tried once on a row with every value missing.

    Raises
    ------
    BundleError
        If the model cannot be loaded or is not what `serving.json` says.
    """
    loader = load_onnx if bundle.model.format == "onnx" else load_skops
    try:
        model = loader(bundle)
        trial = model.score_rows([[None] * len(bundle.column_dtypes)])
    except BundleError:
        raise
    except Exception as err:  # ONNX Runtime and skops each raise a dozen types of their own
        reason = " ".join(str(err).split())[:300]
        raise BundleError(
            f"{bundle.folder / bundle.model.file}: cannot be loaded ({reason})", hint="train again"
        ) from err
    _check_outputs(bundle, trial)
    return model


def _check_outputs(bundle: Bundle, trial: Predictions) -> None:
    classes = bundle.label.classes
    if classes is None:
        sound = trial.labels.shape == (1,)
    else:
        sound = (
            trial.probabilities is not None
            and trial.probabilities.shape == (1, len(classes))
            and trial.labels.tolist()[0] in classes
        )
    if not sound:
        raise BundleError(
            f"{bundle.folder / bundle.model.file}: answers labels {trial.labels!r} and "
            f"probabilities {trial.probabilities!r}, expected classes {classes}",
            hint="train again",
        )

"""The files with which a bundle explains its model's answers, proven to add up to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, is_classifier
from sklearn.pipeline import Pipeline

from contract.explained import BundleExplanation, Kind, Space
from contract.explainer import Contributions, read_contributions, write_contributions
from contract.linear_contributions import LinearArrays
from contract.tree_paths import TreeArrays
from runner.modelling.fitted_model import calibration_of, uncalibrated
from runner.packaging.onnx_export import OnnxSession, export_preprocessing
from runner.packaging.served_model import ServedModel
from runner.packaging.served_proof import TOLERANCE, proof_rows, relative_difference
from runner.packaging.tree_arrays import tree_arrays

_ARRAYS = "explanation.npz"
_PREPROCESSING = "explanation.onnx"
_PROOF_WORK = 60_000_000
"""Rows times steps that are compared: a quarter of a second."""
_PROOF_ROWS = range(5, 500)

Floats = npt.NDArray[np.float64]


class UnexplainedError(Exception):
    """A model's answers cannot be explained; the message says why."""


@dataclass(frozen=True)
class ServedExplanation:
    """What a bundle says of explanations, and its files by name."""

    spec: BundleExplanation
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def content(self) -> dict[str, object]:
        """What `serving.json` has of it."""
        if self.spec.unavailable:
            return {"unavailable": self.spec.unavailable}
        return asdict(self.spec)


def served_explanation(
    pipeline: Pipeline, served: ServedModel, train: pd.DataFrame, test: pd.DataFrame
) -> ServedExplanation:
    """Return what explains a fitted pipeline, or says why nothing does.

    Parameters
    ----------
    served
        The pipeline as it is served.
    train
        Its training rows, shape (n_train_rows, n_features): linear models are explained by how
        far a row is from their mean.
    test
        Held-out rows, on some of which the contributions must add up to the pipeline's answers.
    """
    try:
        return _explanation(pipeline, served, train, test)
    except UnexplainedError as err:
        return ServedExplanation(BundleExplanation(unavailable=str(err)))


def _explanation(
    pipeline: Pipeline, served: ServedModel, train: pd.DataFrame, test: pd.DataFrame
) -> ServedExplanation:
    base = uncalibrated(pipeline)
    model, space = _arrays(base, train)
    kind: Kind = "linear" if isinstance(model, LinearArrays) else "trees"
    files = {_ARRAYS: write_contributions(model, _owners(base, train))}
    if served.format == "onnx":
        files[_PREPROCESSING] = _preprocessing(base, train)
    contributions = read_contributions(kind, files[_ARRAYS])
    spec = BundleExplanation(
        space=space,
        calibrated=is_classifier(pipeline) and calibration_of(pipeline) is not None,
        kind=kind,
        steps=contributions.steps,
        arrays=_ARRAYS,
        preprocessing=_PREPROCESSING if _PREPROCESSING in files else "",
    )
    explanation = ServedExplanation(spec, files)
    _prove(base, explanation, contributions, test)
    return explanation


def _arrays(base: Pipeline, train: pd.DataFrame) -> tuple[LinearArrays | TreeArrays, Space]:
    estimator = base[-1]
    found = tree_arrays(estimator)
    if found is not None:
        return found
    if not hasattr(estimator, "coef_"):
        name = type(estimator).__name__
        reason = f"{name} has no exact contributions; only linear models and trees do"
        raise UnexplainedError(reason)
    return linear_arrays(estimator, base[:-1].transform(train)), _linear_space(estimator)


def linear_arrays(estimator: Any, X: npt.ArrayLike) -> LinearArrays:
    """Return a fitted linear estimator, and the means of its training rows `X`."""
    coefficients = np.atleast_2d(np.asarray(estimator.coef_, np.float64))
    intercepts = np.broadcast_to(estimator.intercept_, len(coefficients)).astype(np.float64)
    return LinearArrays(coefficients, intercepts, np.asarray(X, np.float64).mean(axis=0))


def _linear_space(estimator: BaseEstimator) -> Space:
    if not is_classifier(estimator):
        return "log_label" if type(estimator).__name__ == "PoissonRegressor" else "label"
    return "log_odds" if len(estimator.classes_) == 2 else "class_score"


def _owners(base: Pipeline, X: pd.DataFrame) -> npt.NDArray[np.intp]:
    """Return the model input that each of the estimator's columns is made from.

    Inputs are counted as in the bundle: numbers, then texts.
    """
    texts = {str(name) for name in X if X[name].dtype == object}
    numbers = [str(name) for name in X if str(name) not in texts]
    place = {
        name: at for at, name in enumerate([*numbers, *(str(n) for n in X if str(n) in texts)])
    }
    owners: list[int] = []
    for _, transformer, columns in base[0].transformers_:
        widths = _widths(transformer, len(columns))
        for column, width in zip(columns, widths, strict=True):
            owners += [place[str(column)]] * width
    return np.array(owners, np.intp)


def _widths(transformer: BaseEstimator, columns: int) -> list[int]:
    """Return how many columns the transformer makes of each of its own."""
    name = type(transformer).__name__
    if name == "OneHotEncoder":
        return [len(categories) for categories in transformer.categories_]
    if name == "TargetEncoder":
        return [len(transformer.encodings_) // columns] * columns
    return [1] * columns


def _preprocessing(base: Pipeline, X: pd.DataFrame) -> bytes:
    try:
        return export_preprocessing(base, X)
    except Exception as err:  # as of the model: a converter may fail in any way
        reason = " ".join(f"{type(err).__name__}: {err}".split())[:300]
        raise UnexplainedError(f"its preprocessing is not convertible to ONNX: {reason}") from err


def _prove(
    base: Pipeline, explanation: ServedExplanation, contributions: Contributions, test: pd.DataFrame
) -> None:
    """Return if base values and contributions add up to what the pipeline answers.

    Raises
    ------
    UnexplainedError
        If they do not, on a row.
    """
    spec, files = explanation.spec, explanation.files
    X = proof_rows(test).X
    rows = min(max(_PROOF_WORK // (spec.steps + 1), _PROOF_ROWS.start), _PROOF_ROWS.stop)
    X = X.iloc[:: -(-len(X) // rows)]
    if spec.preprocessing:
        prepared = OnnxSession(files[spec.preprocessing]).run(X)[0].astype(np.float32)
    else:
        prepared = np.asarray(base[:-1].transform(X), np.float32)
    scores = contributions.of(prepared).sum(axis=1) + contributions.base_value
    answers = _answers(spec.space, scores)
    if is_classifier(base):
        expected = np.asarray(base.predict_proba(X))
        expected = expected[:, 1:] if answers.shape[1] == 1 else expected
        difference = float(np.abs(answers - expected).max())
    else:
        difference = relative_difference(np.asarray(base.predict(X)), answers[:, 0])
    if not difference <= TOLERANCE:
        raise UnexplainedError(f"contributions differ from the answers by {difference:.2g}")


def _answers(space: Space, scores: Floats) -> Floats:
    """Return probabilities or labels of scores, shape (n_rows, n_outputs)."""
    if space == "log_odds":
        return np.asarray(1 / (1 + np.exp(-scores)))
    if space == "class_score":
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))
    return np.exp(scores) if space == "log_label" else scores

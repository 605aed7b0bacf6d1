"""The fitted pipeline as it is served, proven to answer what it answers itself.

ONNX is used only where it is proven to predict what the pipeline predicts on held-out rows, and on
rows with missing and unseen values in each column; otherwise the bundle holds the pipeline itself
in the skops format, which unlike a pickle cannot run code of its own. LightGBM's and XGBoost's
readers are no such format: their models are served as ONNX or not at all. So is
HistGradientBoosting with native categories.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd
import skops.io
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline

from contract.predictions import Predictions, class_labels
from contract.skops_model import TRUSTED_TYPES
from runner.errors import RunnerError
from runner.modelling.fitted_model import calibration_of, threshold_of, uncalibrated
from runner.packaging.onnx_export import OnnxSession, export_onnx
from runner.packaging.served_proof import (
    Answer,
    NotEqualError,
    ProofRows,
    finds_neighbours,
    proof_rows,
    prove,
    prove_alone,
)
from runner.recipes.estimators import BOOSTERS

Numbers = npt.NDArray[np.generic]
_SAFE_MODULES = ("sklearn.", "numpy.", "scipy.")


@dataclass(frozen=True)
class ServedModel:
    """A pipeline ready to be served.

    Attributes
    ----------
    file, content
        File name in the bundle and its bytes.
    format
        `onnx` or `skops`.
    proof
        What was compared and how close it was, or why ONNX was not used.
    threshold
        The decision threshold; None if the most probable class is predicted.
    answer
        Model inputs of shape (n_rows, n_features) → what serving answers for them.
    """

    file: str
    content: bytes
    format: str
    proof: str
    threshold: float | None
    answer: Answer = field(repr=False, compare=False)


def served_model(pipeline: Pipeline, X: pd.DataFrame) -> ServedModel:
    """Return the fitted pipeline as ONNX if proven equal on held-out rows, else as skops.

    Parameters
    ----------
    X
        Held-out model inputs, shape (n_rows, n_features); up to 5,000 are compared.

    Raises
    ------
    RunnerError
        If it can be served neither way.
    """
    rows = proof_rows(X)
    try:
        content = export_onnx(pipeline, X)
        answer = _onnx_answer(pipeline, OnnxSession(content))
    except Exception as err:  # a converter may fail in any way; skops serves the model then
        reason = f"not convertible to ONNX: {type(err).__name__}: {err}"
        return _skops(pipeline, rows, " ".join(reason.split())[:300])
    try:
        equal = prove(_pipeline_answer(pipeline, rows.X), answer, rows)
        prove_alone(pipeline, answer, rows)
    except NotEqualError as err:
        return _skops(pipeline, rows, f"ONNX {err}")
    name = type(uncalibrated(pipeline)[-1]).__name__
    proof = f"ONNX equals the {name} pipeline {equal}"
    return ServedModel("model.onnx", content, "onnx", proof, threshold_of(pipeline), answer)


def class_list(pipeline: Pipeline) -> list[int | str] | None:
    """Return the classes in the order of the probabilities; None for a regression."""
    return pipeline.classes_.tolist() if is_classifier(pipeline) else None


def trusted_types(pipeline: Pipeline) -> tuple[bytes, list[str]]:
    """Return the pipeline in the skops format and the types its reader has to trust.

    Raises
    ------
    RunnerError
        If it holds a type from outside scikit-learn, NumPy, SciPy, LightGBM and XGBoost, or cannot
        be written.
    """
    try:
        content = skops.io.dumps(pipeline)
    except Exception as err:  # skops meets what it does not know in many ways
        raise RunnerError(
            f"the fitted pipeline cannot be written by skops: {type(err).__name__}: {err}",
            hint="simplify estimator.init_args, such as an early-stopping scorer, in the recipe",
        ) from err
    types = skops.io.get_untrusted_types(data=content)
    # HistGradientBoosting holds a partial of scikit-learn's check_array beside its categories.
    safe = (*_SAFE_MODULES, *BOOSTERS, "collections.OrderedDict", "functools.partial")
    foreign = [name for name in types if not name.startswith(safe)]
    if foreign:
        raise RunnerError(
            f"the pipeline holds {foreign[0]}, which is not scikit-learn's own",
            hint="choose an estimator from `runner help recipe`",
        )
    return content, types


def _skops(pipeline: Pipeline, rows: ProofRows, reason: str) -> ServedModel:
    content, types = trusted_types(pipeline)
    unread = [name for name in types if name not in TRUSTED_TYPES]
    if unread:
        boosters = [name for name in unread if name.startswith(BOOSTERS)]
        name = boosters[-1] if boosters else type(uncalibrated(pipeline)[-1]).__name__
        raise RunnerError(
            f"{name} cannot be served: {reason}",
            hint=f"{_other_booster(pipeline)}; `runner help recipe` says what is served",
        )

    def answer(X: pd.DataFrame) -> Predictions:
        said = _pipeline_answer(pipeline, X)
        return _decided(pipeline, said.labels, said.probabilities)

    if finds_neighbours(pipeline):
        try:
            prove_alone(pipeline, answer, rows)
        except NotEqualError as err:
            raise RunnerError(
                f"{type(uncalibrated(pipeline)[-1]).__name__} cannot be served: its pipeline {err}",
                hint="write `algorithm: kd_tree` into estimator.init_args: it measures each "
                "distance by itself",
            ) from err
    return ServedModel("model.skops", content, "skops", reason, threshold_of(pipeline), answer)


def _other_booster(pipeline: Pipeline) -> str:
    """Return what to change, so that a booster can be served."""
    if calibration_of(pipeline):
        return "choose `method: sigmoid` in calibration, or delete it"
    if is_classifier(pipeline):
        return "change estimator.init_args or preprocessing"
    return (
        "let the label's values be of one magnitude, such as by its logarithm in the spine's SQL, "
        "change estimator.init_args, or choose an estimator of scikit-learn"
    )


def _onnx_answer(pipeline: Pipeline, session: OnnxSession) -> Callable[[pd.DataFrame], Predictions]:
    def answer(X: pd.DataFrame) -> Predictions:
        labels, *probabilities = session.run(X)
        return _decided(pipeline, labels.reshape(-1), *probabilities)

    return answer


def _pipeline_answer(pipeline: Pipeline, X: pd.DataFrame) -> Predictions:
    # In turn: a forest whose trees answer at once adds them up in the order they finish.
    with joblib.parallel_config(backend="sequential"):
        labels = np.asarray(pipeline.predict(X)).reshape(-1)
        if not is_classifier(pipeline):
            return Predictions(labels.astype(np.float64), None)
        return Predictions(labels, np.asarray(pipeline.predict_proba(X)))


def _decided(
    pipeline: Pipeline, labels: Numbers, probabilities: Numbers | None = None
) -> Predictions:
    """Return labels and probabilities as serving answers them."""
    if probabilities is None:
        return Predictions(labels.astype(np.float64), None)
    shares, threshold = probabilities.astype(np.float32), threshold_of(pipeline)
    if threshold is not None:
        labels = class_labels(shares, pipeline.classes_.tolist(), threshold)
    return Predictions(labels, shares)

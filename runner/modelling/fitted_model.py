"""The whole ML model of a recipe: the fitted pipeline, calibrated, with its decision threshold.

All of it is one scikit-learn pipeline, so whoever loads it needs nothing else: its last step is
the recipe's estimator, inside a `CalibratedClassifierCV` if the recipe calibrates, and that inside
a `FixedThresholdClassifier` if it has a decision threshold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import numpy.typing as npt
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import Pipeline

from contract.predictions import Predictions, class_labels
from runner.modelling.bootstrap import predicted
from runner.modelling.pipeline import fit_pipeline
from runner.modelling.training_data import Rows, TrainingData

if TYPE_CHECKING:
    from runner.recipes.recipe import Recipe

_CANDIDATES = 200
"""How many thresholds are tried: between this many quantiles of the probabilities."""
_STEP = 0.05
"""How finely an isotonic line looks at scores, in log-odds: 5 % of the odds.

Of five estimators on two data sets, with 5,000 rows to calibrate on, log loss and Brier score
moved by less than 0.001, up or down; the largest difference of ONNX fell to a third to a fiftieth,
but for naive Bayes on one of them.
"""
_LAST_DIGITS = 1e-6
"""A forest of 50 trees says 0.2 often, and as served, in float32, the next number below it."""


def fit_model(recipe: Recipe, data: TrainingData) -> Pipeline:
    """Return the recipe's model, each part of it fitted on its own rows.

    The pipeline is fitted on the training rows, the calibration on the later calibration rows, and
    the decision threshold chosen on the still later validation rows. Test rows take no part.

    Raises
    ------
    RunnerError
        As `fit_pipeline`; or if no threshold separates the validation rows.
    """
    pipeline = fit_pipeline(recipe, *data.train)
    # In turn, as in the evaluation: a forest's trees must add up in the same order each time.
    with joblib.parallel_config(backend="sequential"):
        if recipe.calibration is not None:
            assert data.calibration is not None  # noqa: S101 - calibration has a period
            pipeline = _calibrated(pipeline, recipe.calibration.method, data.calibration)
        if recipe.decision_threshold is not None:
            if recipe.decision_threshold.value is not None:
                threshold = max(0.0, recipe.decision_threshold.value - _LAST_DIGITS)
            else:
                assert data.validation is not None  # noqa: S101 - what is maximized has a period
                threshold = _best_threshold(recipe, pipeline, data.validation)
            decided = FixedThresholdClassifier(
                FrozenEstimator(pipeline[-1]), threshold=threshold, response_method="predict_proba"
            )
            # Frozen: nothing is fitted, but scikit-learn wants to be asked.
            decided.fit(pipeline[:-1].transform(data.train.X), data.train.y)
            pipeline = _with_last_step(pipeline, decided)
    return pipeline


def threshold_of(pipeline: Pipeline) -> float | None:
    """Return the model's decision threshold; None if it has none."""
    last = pipeline[-1]
    return float(last.threshold) if isinstance(last, FixedThresholdClassifier) else None


def threshold_metric(pipeline: Pipeline) -> dict[str, float]:
    """Return the decision threshold as an MLflow metric, which unlike a parameter is a number."""
    threshold = threshold_of(pipeline)
    return {} if threshold is None else {"decision_threshold": threshold}


def calibration_of(pipeline: Pipeline) -> CalibratedClassifierCV | None:
    """Return the model's calibrated estimator; None if it is not calibrated."""
    last = _without_threshold(pipeline)
    return last if isinstance(last, CalibratedClassifierCV) else None


def uncalibrated(pipeline: Pipeline) -> Pipeline:
    """Return the model as it was before calibration and without its decision threshold."""
    last = _without_threshold(pipeline)
    if isinstance(last, CalibratedClassifierCV):
        last = last.estimator.estimator  # inside a FrozenEstimator
    return _with_last_step(pipeline, last)


def _without_threshold(pipeline: Pipeline) -> Any:
    last = pipeline[-1]
    return last.estimator.estimator if isinstance(last, FixedThresholdClassifier) else last


def _with_last_step(pipeline: Pipeline, estimator: Any) -> Pipeline:
    return Pipeline([*pipeline.steps[:-1], (pipeline.steps[-1][0], estimator)])


def _calibrated(pipeline: Pipeline, method: str, rows: Rows) -> Pipeline:
    calibrated = CalibratedClassifierCV(FrozenEstimator(pipeline[-1]), method=method)
    X = pipeline[:-1].transform(rows.X)
    calibrated.fit(X, rows.y)
    if method == "isotonic" and len(calibrated.classes_) == 2:
        line = IsotonicRegression(out_of_bounds="clip")
        line.fit(_coarse_scores(pipeline[-1], X), rows.y == calibrated.classes_[1])
        [one] = calibrated.calibrated_classifiers_
        one.calibrators = [line]
    return _with_last_step(pipeline, calibrated)


def _coarse_scores(estimator: Any, X: Any) -> npt.NDArray[np.float64]:
    """Return the scores that scikit-learn calibrates, rounded, shape (n_rows,).

    Two rows whose scores differ in the seventh digit may have different labels, and the line
    between them would be so steep that ONNX's float32 scores miss its ends. No step of a line
    through rounded scores is; log-odds leave the small differences near 0 and 1 as they are.
    """
    if hasattr(estimator, "decision_function"):  # log-odds already
        return np.asarray(np.round(estimator.decision_function(X) / _STEP) * _STEP, np.float64)
    scores = np.asarray(estimator.predict_proba(X)[:, 1], np.float64)
    with np.errstate(divide="ignore", over="ignore"):  # 0 and 1 are infinitely far, and stay so
        log_odds = np.log(scores) - np.log1p(-scores)
        return np.asarray(1 / (1 + np.exp(-np.round(log_odds / _STEP) * _STEP)))


def _best_threshold(recipe: Recipe, pipeline: Pipeline, rows: Rows) -> float:
    """Return the threshold of the highest score on `rows`, the lowest of several.

    Source: scikit-learn's `TunedThresholdClassifierCV` chooses likewise, among evenly spaced
    thresholds; quantiles find those of rare events too. A candidate lies between two
    probabilities and, where any does, next to none: a last digit that comes out otherwise when
    the model is served moves no row across.
    """
    assert recipe.decision_threshold is not None  # noqa: S101 - asked for
    scorer = get_scorer(recipe.decision_threshold.maximize)
    probabilities = pipeline.predict_proba(rows.X)
    quantiles = np.unique(
        np.quantile(probabilities[:, 1], np.linspace(0, 1, _CANDIDATES), method="nearest")
    )
    candidates = _clear_of((quantiles[1:] + quantiles[:-1]) / 2, probabilities[:, 1])
    every, classes = np.arange(len(rows.y)), pipeline.classes_.tolist()

    def score(threshold: float) -> float:
        labels: npt.NDArray[Any] = class_labels(probabilities, classes, threshold)
        model = predicted(Predictions(labels, probabilities), classes)
        return float(scorer(model, every, rows.y))

    key = ("decision_threshold",)
    if not candidates:
        raise recipe.error(
            key,
            f"all {len(rows.y)} validation rows have one probability, {probabilities[0, 1]:.4g}",
            hint="change estimator.init_args, or delete decision_threshold",
        )
    try:
        return max(candidates, key=score)
    except ValueError as err:
        raise recipe.error(
            (*key, "maximize"),
            f"cannot score the validation rows: {err}",
            hint="choose a scorer that fits the label",
        ) from err


def _clear_of(
    candidates: npt.NDArray[np.float64], probabilities: npt.NDArray[np.float64]
) -> list[float]:
    """Return the candidates with no probability within the last digits; all if none is left."""
    ordered = np.sort(probabilities)
    below = np.searchsorted(ordered, candidates - _LAST_DIGITS)
    clear = below == np.searchsorted(ordered, candidates + _LAST_DIGITS)
    return [float(value) for value in (candidates[clear] if clear.any() else candidates)]

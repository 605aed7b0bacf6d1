"""The pictures a data scientist opens first, drawn from held-out rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl

mpl.use("Agg")  # no screen: a run must not need one

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.base import is_classifier
from sklearn.calibration import CalibrationDisplay
from sklearn.inspection import permutation_importance
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    PrecisionRecallDisplay,
    PredictionErrorDisplay,
    RocCurveDisplay,
)
from sklearn.pipeline import Pipeline

from runner.modelling.fitted_model import calibration_of, uncalibrated

_IMPORTANCE_ROWS = 1_000
Labels = npt.NDArray[np.generic]


def draw_plots(folder: Path, pipeline: Pipeline, X: pd.DataFrame, y: Labels, scorer: str) -> None:
    """Write the plots of a fitted pipeline on held-out rows as PNG files into `folder`.

    Binary classification: ROC, precision-recall, calibration (of a calibrated model, before and
    after), confusion matrix with the model's own decision threshold. More classes: confusion
    matrix. Regression: predictions and residuals. Always: importance by permutation,
    the loss in `scorer` when a feature's values are shuffled among at most 1,000 rows.
    """
    for name, axes in _figures(pipeline, X, y, scorer):
        figure = cast("Figure", axes.figure)
        figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")
        plt.close(figure)


def _figures(
    pipeline: Pipeline, X: pd.DataFrame, y: Labels, scorer: str
) -> Iterator[tuple[str, Axes]]:
    if is_classifier(pipeline):
        predicted = pipeline.predict(X)
        yield "confusion_matrix", ConfusionMatrixDisplay.from_predictions(y, predicted).ax_
        if len(pipeline.classes_) == 2:
            positive = pipeline.classes_[1]
            scores = pipeline.predict_proba(X)[:, 1]
            options = {"pos_label": positive, "name": "test rows"}
            yield "roc", RocCurveDisplay.from_predictions(y, scores, **options).ax_
            yield (
                "precision_recall",
                PrecisionRecallDisplay.from_predictions(y, scores, **options).ax_,
            )
            yield "calibration", _calibration(pipeline, X, y, options)
    else:
        predicted = pipeline.predict(X)
        for name, kind in (
            ("predictions", "actual_vs_predicted"),
            ("residuals", "residual_vs_predicted"),
        ):
            yield name, PredictionErrorDisplay.from_predictions(y, predicted, kind=kind).ax_
    yield "importance", _importance(pipeline, X, y, scorer)


def _calibration(pipeline: Pipeline, X: pd.DataFrame, y: Labels, options: dict[str, Any]) -> Axes:
    shown = {"test rows": pipeline}
    if calibration_of(pipeline) is not None:
        shown = {"before calibration": uncalibrated(pipeline), "calibrated": pipeline}
    axes: Axes
    _, axes = plt.subplots()
    for name, model in shown.items():
        scores = model.predict_proba(X)[:, 1]
        CalibrationDisplay.from_predictions(
            y, scores, n_bins=10, ax=axes, **{**options, "name": name}
        )
    return axes


def _importance(pipeline: Pipeline, X: pd.DataFrame, y: Labels, scorer: str) -> Axes:
    rows = np.linspace(0, len(X) - 1, min(len(X), _IMPORTANCE_ROWS)).astype(int)
    drop = permutation_importance(
        pipeline, X.iloc[rows], y[rows], scoring=scorer, n_repeats=3, random_state=0
    )
    order = drop.importances_mean.argsort()[-25:]
    axes: Axes
    _, axes = plt.subplots(figsize=(7, 0.3 * len(order) + 1))
    axes.barh(
        [str(X.columns[i]) for i in order],
        drop.importances_mean[order],
        xerr=drop.importances_std[order],
    )
    axes.set_xlabel(f"loss in {scorer} when shuffled ({len(rows)} test rows)")
    return axes

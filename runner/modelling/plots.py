"""The pictures a data scientist opens first, drawn from held-out rows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # no screen: a run must not need one

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator, is_classifier
from sklearn.inspection import permutation_importance
from sklearn.metrics import (
    PrecisionRecallDisplay,
    PredictionErrorDisplay,
    RocCurveDisplay,
    confusion_matrix,
)
from sklearn.pipeline import Pipeline

from runner.modelling.bootstrap import Interval, Labels
from runner.modelling.fitted_model import calibration_of, threshold_of, uncalibrated
from runner.modelling.share_interval import wilson

_IMPORTANCE_ROWS = 1_000
_REPEATS = 3
_BINS = 10
_MOST_CLASSES_WITH_TEXT = 12
_CURVES = (
    ("roc", RocCurveDisplay, "ROC curve", "roc_auc"),
    ("precision_recall", PrecisionRecallDisplay, "Precision and recall", "average_precision"),
)
_Floats = npt.NDArray[np.float64]


def draw_plots(
    folder: Path,
    pipeline: Pipeline,
    X: pd.DataFrame,
    y: Labels,
    scorer: str,
    intervals: Mapping[str, Interval] | None = None,
    served: BaseEstimator | None = None,
) -> None:
    """Write the plots of a fitted pipeline on held-out rows as PNG files into `folder`.

    Binary classification: ROC, precision-recall, calibration (of a calibrated model, before and
    after), the probabilities of both classes, and the confusion matrix with the model's own
    decision threshold. More classes: confusion matrix. Regression: predictions and residuals.
    Always: importance by permutation, the loss in `scorer` when a feature's values are shuffled
    among at most 1,000 rows.

    Parameters
    ----------
    intervals
        Scorer → its score on these rows with its interval, for the titles.
    served
        What answers the shuffled rows in place of the pipeline. As ONNX, it takes half as long.
    """
    # The user chooses the names of features and classes: `$x$` in them is not a formula, and a
    # character that the font lacks needs no warning.
    with mpl.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        for name, figure in _figures(pipeline, X, y, intervals or {}):
            _save(figure, folder, name)
        _save(_importance(served or pipeline, X, y, scorer), folder, "importance")


def _save(figure: Figure, folder: Path, name: str) -> None:
    figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")


def _figures(
    pipeline: Pipeline,
    X: pd.DataFrame,
    y: Labels,
    intervals: Mapping[str, Interval],
) -> Iterator[tuple[str, Figure]]:
    predicted = pipeline.predict(X)
    if not is_classifier(pipeline):
        yield "predictions", _predictions(y, predicted, intervals)
        yield "residuals", _residuals(y, predicted)
    else:
        yield "confusion_matrix", _confusion(y, predicted)
        if len(pipeline.classes_) == 2:
            positive = pipeline.classes_[1]
            shares = pipeline.predict_proba(X)[:, 1]
            for name, display, title, of in _CURVES:
                whole = f"{title}{_interval(of, intervals)}"
                yield name, _curve(display, y, shares, positive, whole)
            shown = {"test rows": shares}
            if calibration_of(pipeline) is not None:
                before = uncalibrated(pipeline).predict_proba(X)[:, 1]
                shown = {"before calibration": before, "calibrated": shares}
            yield "calibration", _calibration(y == positive, shown, positive)
            yield "scores", _probabilities(y, shares, positive, threshold_of(pipeline))


def _new(title: str = "", x: str = "", y: str = "") -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 4.5))
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    return figure, axes


def _curve(
    display: type[RocCurveDisplay] | type[PrecisionRecallDisplay],
    y: Labels,
    shares: _Floats,
    positive: object,
    title: str,
) -> Figure:
    """Return a curve over all thresholds, beside that of a model without skill."""
    figure, axes = _new()
    display.from_predictions(
        y, shares, pos_label=positive, name="test rows", ax=axes, plot_chance_level=True
    )
    share = float(np.mean(y == positive))
    axes.set_title(f"{title}\n{len(y):,} test rows, {share:.1%} of class {positive}")
    axes.legend(loc="best")
    return figure


def _interval(scorer: str, intervals: Mapping[str, Interval]) -> str:
    if scorer not in intervals:
        return ""
    found = intervals[scorer]
    return f": {scorer} {found.value:.4f} (95% CI {found.low:.4f} to {found.high:.4f})"


def _confusion(y: Labels, predicted: Labels) -> Figure:
    """Return the confusion matrix: the rates of each true class, with the numbers of rows."""
    classes = np.unique(np.concatenate([y, predicted]))
    counts = confusion_matrix(y, predicted, labels=classes)
    rates = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    right = counts.trace() / counts.sum()
    figure, axes = _new(
        f"Confusion matrix: {right:.1%} of {len(y):,} test rows", "predicted", "true class"
    )
    figure.colorbar(
        axes.imshow(rates, cmap="Blues", vmin=0, vmax=1), label="share of the true class"
    )
    ticks = range(len(classes))
    axes.set_xticks(ticks, map(str, classes), rotation=45 if len(classes) > 4 else 0)
    axes.set_yticks(ticks, map(str, classes))
    if len(classes) <= _MOST_CLASSES_WITH_TEXT:
        for (i, j), rate in np.ndenumerate(rates):
            color = "white" if rate > 0.5 else "black"
            axes.text(j, i, f"{rate:.1%}\n{counts[i, j]:,}", ha="center", va="center", color=color)
    return figure


def _calibration(
    is_positive: npt.NDArray[np.bool_], shown: Mapping[str, _Floats], positive: object
) -> Figure:
    """Return how often the class occurred, by predicted probability, above a histogram."""
    figure = Figure(figsize=(6, 5.5))
    curve, below = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    curve.plot([0, 1], [0, 1], ":", color="gray", label="perfectly calibrated")
    edges = np.linspace(0, 1, _BINS + 1)
    for name, shares in shown.items():
        number = np.digitize(shares, edges[1:-1])
        rows = np.bincount(number, minlength=_BINS)
        there = rows > 0
        said = np.bincount(number, shares, minlength=_BINS)[there] / rows[there]
        came = np.bincount(number, is_positive, minlength=_BINS)[there] / rows[there]
        ends = np.abs(wilson(came, rows[there]) - came)
        curve.errorbar(said, came, ends, fmt="o-", capsize=3, label=name)
        below.hist(shares, edges, alpha=0.6)
    curve.set(title="Calibration, with 95% CIs", ylabel=f"share of class {positive}")
    curve.legend(loc="best")
    below.set(xlabel=f"probability of class {positive}", ylabel="test rows")
    return figure


def _probabilities(y: Labels, shares: _Floats, positive: object, threshold: float | None) -> Figure:
    figure, axes = _new(
        "Probabilities by true class", f"probability of class {positive}", "share of the class"
    )
    edges = np.linspace(0, 1, 4 * _BINS + 1).tolist()
    for value in np.unique(y):
        of_class = shares[y == value]
        weights = np.full(len(of_class), 1 / len(of_class))
        name = f"class {value}: {len(of_class):,} test rows"
        axes.hist(of_class, edges, weights=weights, alpha=0.55, label=name)
    if threshold is not None:
        axes.axvline(threshold, color="black", linestyle="--", label=f"threshold {threshold:.4g}")
    axes.legend(loc="best")
    return figure


def _predictions(y: Labels, predicted: Labels, intervals: Mapping[str, Interval]) -> Figure:
    figure, axes = _new()
    PredictionErrorDisplay.from_predictions(y, predicted, kind="actual_vs_predicted", ax=axes)
    axes.set_title(f"Predicted and true values{_interval('r2', intervals)}\n{len(y):,} test rows")
    return figure


def _residuals(y: Labels, predicted: Labels) -> Figure:
    """Return true minus predicted values, by the prediction and as a histogram."""
    left = np.asarray(y, dtype=float) - predicted
    low, high = np.percentile(left, (5, 95))
    figure = Figure(figsize=(8, 4.5))
    scatter, beside = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1])
    PredictionErrorDisplay.from_predictions(y, predicted, kind="residual_vs_predicted", ax=scatter)
    beside.hist(left, 4 * _BINS, orientation="horizontal")
    beside.set_xlabel("test rows")
    figure.suptitle(f"Residuals: mean {left.mean():.4g}, 90% from {low:.4g} to {high:.4g}")
    return figure


def _importance(model: BaseEstimator, X: pd.DataFrame, y: Labels, scorer: str) -> Figure:
    rows = np.linspace(0, len(X) - 1, min(len(X), _IMPORTANCE_ROWS)).astype(int)
    drop = permutation_importance(
        model, X.iloc[rows], y[rows], scoring=scorer, n_repeats=_REPEATS, random_state=0
    )
    order = drop.importances_mean.argsort()[-25:]
    figure = Figure(figsize=(7, 0.3 * len(order) + 1))
    axes = figure.subplots()
    axes.barh(
        [str(X.columns[i]) for i in order],
        drop.importances_mean[order],
        xerr=drop.importances_std[order],
    )
    axes.set_xlabel(f"loss in {scorer} when shuffled")
    axes.set_title(
        f"Permutation importance: {len(rows):,} test rows,\n"
        f"mean and standard deviation of {_REPEATS} shuffles"
    )
    return figure

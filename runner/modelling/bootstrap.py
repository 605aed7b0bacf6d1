"""How sure a score is: the test rows drawn again and again, the score computed each time.

Rows of one entity are drawn together: a user's rows of two weeks are nearly the same row, and
drawing them one by one would make the score look surer than it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import get_scorer

from contract.predictions import Predictions
from runner.modelling.resampled_scores import Numbers, resampled_score

RESAMPLES = 500
SEED = 0
_TAILS = (2.5, 97.5)  # percentiles: 95 % of the resamples lie between them
Labels = npt.NDArray[np.generic]
RowNumbers = npt.NDArray[np.intp]
_Rows = TypeVar("_Rows")


@dataclass(frozen=True)
class Interval:
    """A number computed on all rows, and where it lies on 95 % of the resamples."""

    value: float
    low: float
    high: float


def predicted(predictions: Predictions, classes: list[int | str] | None) -> BaseEstimator:
    """Return an estimator that answers `predictions` for row numbers.

    scikit-learn's scorers ask an estimator; a resample need not compute its predictions again.

    Parameters
    ----------
    classes
        The classes in the order of the probabilities; None for a regression.
    """
    labels, shares = predictions.labels, predictions.probabilities

    def answer(rows: RowNumbers) -> Predictions:
        return Predictions(labels[rows], None if shares is None else shares[rows])

    return answering(answer, classes)


def answering(
    answer: Callable[[_Rows], Predictions], classes: list[int | str] | None
) -> BaseEstimator:
    """Return an estimator that answers what `answer` returns; `classes` as in `predicted`."""
    return _AnsweredValues(answer) if classes is None else _AnsweredClasses(answer, classes)


def score_interval(
    scorer: str, estimator: BaseEstimator, y: Labels, groups: RowNumbers, count: int = RESAMPLES
) -> Interval:
    """Return the score of an estimator of `predicted`, with its 95 % percentile interval.

    Parameters
    ----------
    y, groups
        Shape (n_rows,): the labels, and a number from 0 per entity, without gaps.
    count
        How many resamples are drawn.

    Raises
    ------
    ValueError
        If the scorer cannot score these rows.

    Notes
    -----
    Source: B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap (1993), section 13.3,
    the percentile interval; entities are resampled in place of rows, the cluster bootstrap of
    C. A. Field and A. H. Welsh, Bootstrapping clustered data (2007), section 2. A resample on
    which the score is not defined (only one class was drawn) is left out.
    """
    whole = _defined(scorer, estimator, y, np.arange(len(y)))
    return _interval(whole, _drawn(scorer, estimator, y, groups, count))


def paired_interval(
    scorer: str, new: BaseEstimator, old: BaseEstimator, y: Labels, groups: RowNumbers
) -> Interval:
    """Return how much better `new` scores than `old`, with its 95 % percentile interval.

    Both are scored on the same rows of each resample. The new one is better by more than noise
    if the whole interval is above 0.

    Raises
    ------
    ValueError
        If the scorer cannot score these rows.

    Notes
    -----
    Source: P. Koehn, Statistical significance tests for machine translation evaluation (2004),
    section 4, paired bootstrap resampling; interval and entities as in `score_interval`.
    """
    every = np.arange(len(y))
    whole = _defined(scorer, new, y, every) - _defined(scorer, old, y, every)
    drawn = _drawn(scorer, new, y, groups) - _drawn(scorer, old, y, groups)
    return _interval(whole, drawn)


def row_counts(groups: RowNumbers, count: int = RESAMPLES) -> Iterator[Numbers]:
    """Give `count` times how often each row is drawn, shape (n_rows,).

    As many groups as there are, each with all its rows, are drawn with replacement. Always the same
    for the same groups: the seed is fixed.
    """
    n_groups = int(groups.max()) + 1
    for chosen in _chosen(n_groups, count):
        yield np.bincount(chosen, minlength=n_groups).astype(np.float64)[groups]


def _chosen(n_groups: int, count: int) -> Iterator[RowNumbers]:
    random = np.random.default_rng(SEED)
    for _ in range(count):
        yield random.integers(n_groups, size=n_groups)


def _drawn(
    scorer: str, estimator: BaseEstimator, y: Labels, groups: RowNumbers, count: int = RESAMPLES
) -> Numbers:
    """Return the score of each resample, NaN where it is not defined."""
    score = resampled_score(scorer, estimator, y)
    return np.array([score(counts) for counts in row_counts(groups, count)])


def _interval(whole: float, drawn: Numbers) -> Interval:
    if np.isnan(drawn).all():
        raise ValueError("no resample of the rows can be scored")
    low, high = np.nanpercentile(drawn, _TAILS)
    return Interval(whole, float(low), float(high))


def _defined(scorer: str, estimator: BaseEstimator, y: Labels, rows: RowNumbers) -> float:
    score = float(get_scorer(scorer)(estimator, rows, y[rows]))
    if not np.isfinite(score):
        raise ValueError(f"{scorer} is {score} on {len(rows)} rows")
    return score


class _AnsweredClasses(ClassifierMixin, BaseEstimator, Generic[_Rows]):  # type: ignore[misc]
    def __init__(self, answer: Callable[[_Rows], Predictions], classes: list[int | str]) -> None:
        self.answer = answer
        self.classes = classes
        self.classes_ = np.array(classes)

    def fit(self, *_: object) -> None:
        """Do nothing: scikit-learn takes an estimator by this method."""

    def predict(self, X: _Rows) -> Labels:
        return self.answer(X).labels

    def predict_proba(self, X: _Rows) -> npt.NDArray[np.float64]:
        probabilities = self.answer(X).probabilities
        assert probabilities is not None  # noqa: S101 - a classification
        shares = probabilities.astype(np.float64)
        # As float32, they add up to 1 less exactly than scikit-learn's scorers want.
        return np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float64)


class _AnsweredValues(RegressorMixin, BaseEstimator, Generic[_Rows]):  # type: ignore[misc]
    def __init__(self, answer: Callable[[_Rows], Predictions]) -> None:
        self.answer = answer

    def fit(self, *_: object) -> None:
        """Do nothing: scikit-learn takes an estimator by this method."""

    def predict(self, X: _Rows) -> Labels:
        return self.answer(X).labels

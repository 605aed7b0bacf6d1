"""Scores of many resamples at once, from how often each row was drawn.

scikit-learn checks its arguments anew for each resample, which takes longer than the score itself:
0.4 s for `roc_auc` of 200 resamples of 620 rows. What is not here is left to it, and what is here
is tested against it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, is_regressor

Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Resampled = Callable[[Numbers], Numbers]
"""From how often each row was drawn, shape (n_resamples, n_rows), to the score of each resample,
NaN where it is not defined."""


def resampled_score(
    scorer: str, estimator: BaseEstimator, y: npt.NDArray[np.generic]
) -> Resampled | None:
    """Return how `scorer` scores resamples of the rows with the labels `y`, shape (n_rows,).

    None if only scikit-learn can: another scorer, or classes that are not 0 and 1.

    Parameters
    ----------
    estimator
        Of `bootstrap.predicted`: it answers for row numbers.
    """
    every = np.arange(len(y))
    if is_regressor(estimator):
        if scorer not in _OF_VALUES:
            return None
        values = np.asarray(y, np.float64)
        return partial(_OF_VALUES[scorer], values, estimator.predict(every))
    if list(estimator.classes_) != [0, 1] or not np.isin(y, (0, 1)).all():
        return None
    if scorer in _OF_LABELS:
        return partial(_OF_LABELS[scorer], y == 1, estimator.predict(every) == 1)
    if scorer in _OF_SHARES:
        return partial(_OF_SHARES[scorer], y == 1, estimator.predict_proba(every)[:, 1])
    return None


def _mean(values: npt.ArrayLike, counts: Numbers) -> Numbers:
    return np.asarray(counts @ np.asarray(values, np.float64) / counts.sum(axis=1))


def _ratio(above: Numbers, below: Numbers, otherwise: float) -> Numbers:
    ratio: Numbers = np.full_like(above, otherwise)
    return np.divide(above, below, out=ratio, where=below > 0)


def _recall(y: Flags, said: Flags, counts: Numbers, otherwise: float = 0) -> Numbers:
    return _ratio(counts @ (y & said), counts @ y, otherwise)


def _balanced_accuracy(y: Flags, said: Flags, counts: Numbers) -> Numbers:
    of_each = (_recall(y, said, counts, np.nan), _recall(~y, ~said, counts, np.nan))
    return np.asarray(np.nanmean(of_each, axis=0))  # of the class drawn, if only one was


def _neg_log_loss(y: Flags, shares: Numbers, counts: Numbers) -> Numbers:
    least = np.finfo(np.float64).eps
    gains = np.log(np.clip(np.where(y, shares, 1 - shares), least, 1 - least))
    has_both = (counts @ y > 0) & (counts @ ~y > 0)  # else scikit-learn refuses
    return np.where(has_both, _mean(gains, counts), np.nan)


def _by_threshold(y: Flags, shares: Numbers, counts: Numbers) -> tuple[Numbers, Numbers]:
    """Return the drawn rows of class 1 and 0 at or above each probability, the highest first."""
    order = np.argsort(-shares, kind="stable")
    last = np.flatnonzero(np.diff(shares[order], append=np.nan))  # of each run of equal ones
    counts, y = counts[:, order], y[order]
    ones, every = np.cumsum(counts * y, axis=1)[:, last], np.cumsum(counts, axis=1)[:, last]
    return ones, every - ones


def _roc_auc(y: Flags, shares: Numbers, counts: Numbers) -> Numbers:
    """Return how often a row of class 1 has a higher probability than one of class 0."""
    ones, zeros = _by_threshold(y, shares, counts)
    below = zeros[:, -1:] - zeros + np.diff(zeros, axis=1, prepend=0) / 2  # ties count half
    won = (np.diff(ones, axis=1, prepend=0) * below).sum(axis=1)
    return _ratio(won, ones[:, -1] * zeros[:, -1], np.nan)


def _average_precision(y: Flags, shares: Numbers, counts: Numbers) -> Numbers:
    ones, zeros = _by_threshold(y, shares, counts)
    found = np.diff(ones, axis=1, prepend=0) * _ratio(ones, ones + zeros, 0)
    return _ratio(found.sum(axis=1), ones[:, -1], np.nan)


def _r2(y: Numbers, said: Numbers, counts: Numbers) -> Numbers:
    spread = (counts * (y - _mean(y, counts)[:, np.newaxis]) ** 2).sum(axis=1)
    left = counts @ (y - said) ** 2
    return np.asarray(1 - _ratio(left, spread, 0) - ((spread == 0) & (left > 0)))


_OF_LABELS: Mapping[str, Callable[[Flags, Flags, Numbers], Numbers]] = {
    "accuracy": lambda y, said, counts: _mean(y == said, counts),
    "balanced_accuracy": _balanced_accuracy,
    "f1": lambda y, said, counts: _ratio(2 * (counts @ (y & said)), counts @ y + counts @ said, 0),
    "precision": lambda y, said, counts: _ratio(counts @ (y & said), counts @ said, 0),
    "recall": _recall,
}
_OF_SHARES: Mapping[str, Callable[[Flags, Numbers, Numbers], Numbers]] = {
    "average_precision": _average_precision,
    "neg_brier_score": lambda y, shares, counts: -_mean((y - shares) ** 2, counts),
    "neg_log_loss": _neg_log_loss,
    "roc_auc": _roc_auc,
}
_OF_VALUES: Mapping[str, Callable[[Numbers, Numbers, Numbers], Numbers]] = {
    "neg_mean_absolute_error": lambda y, said, counts: -_mean(abs(y - said), counts),
    "neg_mean_squared_error": lambda y, said, counts: -_mean((y - said) ** 2, counts),
    "neg_root_mean_squared_error": lambda y, said, counts: -np.sqrt(_mean((y - said) ** 2, counts)),
    "r2": _r2,
}

"""Scores of probabilities on a resample. Rows are sorted once, not for each resample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Resampled = Callable[[Numbers], float]


class ClassShares(NamedTuple):
    """What a classifier says of n_rows rows.

    Attributes
    ----------
    y
        The position of each row's class, shape (n_rows,).
    shares
        Probabilities of shape (n_rows, n_classes); each row adds up to 1.
    positive
        The position of the class 1, for scorers that look at one class.
    """

    y: Codes
    shares: Numbers
    positive: int

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return int(self.shares.shape[1])

    def drawn(self, counts: Numbers) -> Numbers:
        """Return how many rows of each class a resample has, shape (n_classes,)."""
        return np.bincount(self.y, counts, self.n_classes).astype(np.float64)


def _mean(values: Numbers) -> Resampled:
    # Not `counts @ values`: BLAS would start threads for each resample.
    return lambda counts: float((counts * values).sum() / counts.sum())


def _if_all_drawn(rows: ClassShares, score: Resampled) -> Resampled:
    """Return `score`, NaN where a class was not drawn: scikit-learn refuses those resamples."""

    def resampled(counts: Numbers) -> float:
        return score(counts) if rows.drawn(counts).all() else float("nan")

    return resampled


def _neg_log_loss(rows: ClassShares) -> Resampled:
    least = np.finfo(np.float64).eps
    own = rows.shares[np.arange(len(rows.y)), rows.y]
    return _if_all_drawn(rows, _mean(np.log(np.clip(own, least, 1 - least))))


def _neg_brier_score(rows: ClassShares) -> Resampled:
    if rows.n_classes == 2:
        return _mean(-((rows.shares[:, 1] - rows.y) ** 2))
    is_class = rows.y[:, np.newaxis] == np.arange(rows.n_classes)
    return _if_all_drawn(rows, _mean(-((rows.shares - is_class) ** 2).sum(axis=1)))


class _Wins:
    """How often rows of a class have a higher share of it than rows of the others.

    Parameters
    ----------
    position
        The class.
    """

    def __init__(self, rows: ClassShares, position: int) -> None:
        shares, own = rows.shares[:, position], rows.y == position
        self._of_class, self._others = (
            numbers[np.argsort(shares[numbers], kind="stable")]
            for numbers in (np.flatnonzero(own), np.flatnonzero(~own))
        )
        mine, theirs = shares[self._of_class], shares[self._others]
        self._below = np.searchsorted(mine, theirs, "left")
        self._up_to = np.searchsorted(mine, theirs, "right")
        self._codes, self._n_classes = rows.y[self._others], rows.n_classes

    def over_each(self, counts: Numbers) -> Numbers:
        """Return the pairs won against each class, shape (n_classes,); a tie is half a win."""
        drawn = np.concatenate([[0.0], np.cumsum(counts[self._of_class])])
        lost = (drawn[self._below] + drawn[self._up_to]) / 2
        won = counts[self._others] * (drawn[-1] - lost)
        return np.bincount(self._codes, won, self._n_classes).astype(np.float64)


def _roc_auc(rows: ClassShares) -> Resampled:
    wins = _Wins(rows, 1)

    def resampled(counts: Numbers) -> float:
        zeros, ones = rows.drawn(counts)
        return float(wins.over_each(counts)[0] / (zeros * ones))

    return _if_all_drawn(rows, resampled)


def _of_several(
    average: Callable[[Numbers, Numbers], float],
) -> Callable[[ClassShares], Resampled]:
    """Return the area under the curve as an average over classes, or pairs of classes.

    Parameters
    ----------
    average
        From the pairs of rows that each class wins against each other, shape (n_classes,
        n_classes), and how many rows each has, to the score.
    """

    def of(rows: ClassShares) -> Resampled:
        if rows.n_classes == 2:
            return _roc_auc(rows)
        wins = [_Wins(rows, position) for position in range(rows.n_classes)]

        def resampled(counts: Numbers) -> float:
            won = np.array([each.over_each(counts) for each in wins])
            return average(won, rows.drawn(counts))

        return _if_all_drawn(rows, resampled)

    return of


def _against_rest(won: Numbers, drawn: Numbers) -> Numbers:
    return np.asarray(won.sum(axis=1) / (drawn * (drawn.sum() - drawn)))


def _against_each(won: Numbers, drawn: Numbers) -> Numbers:
    """Return the mean area of each pair of classes, in the order of `combinations`."""
    area = won / np.outer(drawn, drawn)
    return np.array([(area[a, b] + area[b, a]) / 2 for a, b in combinations(range(len(drawn)), 2)])


def _each_weighted(won: Numbers, drawn: Numbers) -> float:
    rows = [drawn[a] + drawn[b] for a, b in combinations(range(len(drawn)), 2)]
    return float(np.average(_against_each(won, drawn), weights=rows))


def _average_precision(rows: ClassShares) -> Resampled:
    if rows.n_classes == 2:
        return _precision_of(rows, rows.positive)
    of_each = [_precision_of(rows, position) for position in range(rows.n_classes)]
    return _if_all_drawn(rows, lambda counts: float(np.mean([one(counts) for one in of_each])))


def _precision_of(rows: ClassShares, position: int) -> Resampled:
    """Return the average precision of one class, NaN where none of it was drawn."""
    shares = rows.shares[:, position]
    order = np.argsort(-shares, kind="stable")
    last = np.flatnonzero(np.diff(shares[order], append=np.nan))  # of each run of equal ones
    is_class = (rows.y == position)[order]

    def resampled(counts: Numbers) -> float:
        drawn = counts[order]
        every = np.cumsum(drawn)[last]
        found = np.cumsum(drawn * is_class)[last]
        if found[-1] == 0:
            return float("nan")
        precision = np.divide(found, every, out=np.zeros_like(every), where=every > 0)
        return float((np.diff(found, prepend=0.0) * precision).sum() / found[-1])

    return resampled


OF_SHARES: Mapping[str, Callable[[ClassShares], Resampled]] = {
    "average_precision": _average_precision,
    "neg_brier_score": _neg_brier_score,
    "neg_log_loss": _neg_log_loss,
    "roc_auc": _roc_auc,
    "roc_auc_ovr": _of_several(lambda won, drawn: float(_against_rest(won, drawn).mean())),
    "roc_auc_ovr_weighted": _of_several(
        lambda won, drawn: float(np.average(_against_rest(won, drawn), weights=drawn))
    ),
    "roc_auc_ovo": _of_several(lambda won, drawn: float(_against_each(won, drawn).mean())),
    "roc_auc_ovo_weighted": _of_several(_each_weighted),
}

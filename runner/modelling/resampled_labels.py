"""Scores of predicted classes on a resample, from how often each class was drawn and predicted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
_OfEach = Callable[["_Tally"], Numbers]


class LabelCodes(NamedTuple):
    """True and predicted classes of n_rows rows as numbers below `n_classes`."""

    y: Codes
    said: Codes
    n_classes: int


class _Tally(NamedTuple):
    """How many rows of a resample are of each class, predicted to be, and both."""

    true: Numbers
    said: Numbers
    right: Numbers


def _ratio(above: Numbers, below: Numbers) -> Numbers:
    """Return the ratio, 0 where nothing is below, as scikit-learn's `zero_division` has it."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _precision(tally: _Tally) -> Numbers:
    return _ratio(tally.right, tally.said)


def _recall(tally: _Tally) -> Numbers:
    return _ratio(tally.right, tally.true)


def _f1(tally: _Tally) -> Numbers:
    return _ratio(2 * tally.right, tally.true + tally.said)


def _jaccard(tally: _Tally) -> Numbers:
    return _ratio(tally.right, tally.true + tally.said - tally.right)


def _macro(of_each: _OfEach, tally: _Tally) -> float:
    drawn = tally.true + tally.said > 0  # the others are no labels of the resample
    return float(of_each(tally)[drawn].mean())


def _weighted(of_each: _OfEach, tally: _Tally) -> float:
    return float(np.average(of_each(tally), weights=tally.true))


def _micro(of_each: _OfEach, tally: _Tally) -> float:
    return float(of_each(_Tally(*(part.sum(keepdims=True) for part in tally)))[0])


def _accuracy(tally: _Tally) -> float:
    return float(tally.right.sum() / tally.true.sum())


def _balanced_accuracy(tally: _Tally) -> float:
    return float(_recall(tally)[tally.true > 0].mean())


def _matthews_corrcoef(tally: _Tally) -> float:
    rows, right = tally.true.sum(), tally.right.sum()
    spread = (rows**2 - tally.said @ tally.said) * (rows**2 - tally.true @ tally.true)
    if spread == 0:
        return 0.0
    return float((right * rows - tally.true @ tally.said) / np.sqrt(spread))


def _tallied(
    score: Callable[[_Tally], float],
) -> Callable[[LabelCodes], Callable[[Numbers], float]]:
    """Return `score` as a function of classes, then of how often each row was drawn."""

    def of(codes: LabelCodes) -> Callable[[Numbers], float]:
        y, said, n_classes = codes
        right = y == said

        def of_each(codes: Codes, drawn: Numbers) -> Numbers:
            return np.bincount(codes, drawn, n_classes).astype(np.float64)

        def resampled(counts: Numbers) -> float:
            both = of_each(y, counts * right)
            return score(_Tally(of_each(y, counts), of_each(said, counts), both))

        return resampled

    return of


def _of_one(of_each: _OfEach) -> Callable[[LabelCodes, int], Callable[[Numbers], float]]:
    def of(codes: LabelCodes, position: int) -> Callable[[Numbers], float]:
        return _tallied(lambda tally: float(of_each(tally)[position]))(codes)

    return of


_OF_EACH: Mapping[str, _OfEach] = {
    "f1": _f1,
    "jaccard": _jaccard,
    "precision": _precision,
    "recall": _recall,
}
OF_ONE_CLASS = {name: _of_one(of_each) for name, of_each in _OF_EACH.items()}
"""The scores of the class at a position, of two classes."""


def _averaged(
    average: Callable[[_OfEach, _Tally], float], of_each: _OfEach
) -> Callable[[LabelCodes], Callable[[Numbers], float]]:
    return _tallied(lambda tally: average(of_each, tally))


OF_LABELS = {
    "accuracy": _tallied(_accuracy),
    "balanced_accuracy": _tallied(_balanced_accuracy),
    "matthews_corrcoef": _tallied(_matthews_corrcoef),
    **{
        f"{name}_{kind}": _averaged(average, of_each)
        for kind, average in {"macro": _macro, "micro": _micro, "weighted": _weighted}.items()
        for name, of_each in _OF_EACH.items()
    },
}
"""The scores of any number of classes."""

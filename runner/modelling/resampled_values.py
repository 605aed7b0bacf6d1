"""Scores of a regression on a resample, from an error per row that no resample changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy

Numbers = npt.NDArray[np.float64]
Resampled = Callable[[Numbers], float]
_OfRows = Callable[[Numbers, Numbers], Numbers]


def _sum(values: Numbers, counts: Numbers) -> float:
    # Not `counts @ values`: BLAS would start threads for each resample.
    return float((counts * values).sum())


def _mean(values: Numbers, counts: Numbers) -> float:
    return _sum(values, counts) / float(counts.sum())


def _neg_mean(of_rows: _OfRows) -> Callable[[Numbers, Numbers], Resampled]:
    """Return the negated mean of an error of rows, by labels and predictions."""

    def of(y: Numbers, said: Numbers) -> Resampled:
        errors = of_rows(y, said)
        return lambda counts: -_mean(errors, counts)

    return of


def _neg_root(of_rows: _OfRows) -> Callable[[Numbers, Numbers], Resampled]:
    def of(y: Numbers, said: Numbers) -> Resampled:
        errors = of_rows(y, said)
        return lambda counts: -float(np.sqrt(_mean(errors, counts)))

    return of


def _absolute(y: Numbers, said: Numbers) -> Numbers:
    return np.asarray(np.abs(y - said))


def _percentage(y: Numbers, said: Numbers) -> Numbers:
    return np.asarray(np.abs(y - said) / np.maximum(np.abs(y), np.finfo(np.float64).eps))


def _squared(y: Numbers, said: Numbers) -> Numbers:
    return np.asarray((y - said) ** 2)


def _squared_log(y: Numbers, said: Numbers) -> Numbers:
    return _squared(np.log1p(y), np.log1p(said))


def _poisson_deviance(y: Numbers, said: Numbers) -> Numbers:
    return np.asarray(2 * (xlogy(y, y / said) - y + said))


def _gamma_deviance(y: Numbers, said: Numbers) -> Numbers:
    return np.asarray(2 * (np.log(said / y) + y / said - 1))


def _neg_max_error(y: Numbers, said: Numbers) -> Resampled:
    errors = _absolute(y, said)
    return lambda counts: -float(errors[counts > 0].max())


def _neg_median(y: Numbers, said: Numbers) -> Resampled:
    errors = _absolute(y, said)
    order = np.argsort(errors, kind="stable")
    errors = errors[order]

    def resampled(counts: Numbers) -> float:
        drawn = np.cumsum(counts[order])
        middle = np.array([(drawn[-1] - 1) // 2, drawn[-1] // 2])
        return -float(errors[np.searchsorted(drawn, middle, "right")].mean())

    return resampled


def _explained(left: float, spread: float) -> float:
    """Return the share of the spread that is not left; 1 or 0 where there is no spread."""
    if spread == 0:
        return float(left == 0)
    return 1 - left / spread


def _r2(y: Numbers, said: Numbers) -> Resampled:
    errors = _squared(y, said)
    return lambda counts: _explained(_sum(errors, counts), _spread(y, counts))


def _explained_variance(y: Numbers, said: Numbers) -> Resampled:
    return lambda counts: _explained(_spread(y - said, counts), _spread(y, counts))


def _spread(values: Numbers, counts: Numbers) -> float:
    return _sum((values - _mean(values, counts)) ** 2, counts)


OF_VALUES: Mapping[str, Callable[[Numbers, Numbers], Resampled]] = {
    "explained_variance": _explained_variance,
    "neg_max_error": _neg_max_error,
    "neg_mean_absolute_error": _neg_mean(_absolute),
    "neg_mean_absolute_percentage_error": _neg_mean(_percentage),
    "neg_mean_gamma_deviance": _neg_mean(_gamma_deviance),
    "neg_mean_poisson_deviance": _neg_mean(_poisson_deviance),
    "neg_mean_squared_error": _neg_mean(_squared),
    "neg_mean_squared_log_error": _neg_mean(_squared_log),
    "neg_median_absolute_error": _neg_median,
    "neg_root_mean_squared_error": _neg_root(_squared),
    "neg_root_mean_squared_log_error": _neg_root(_squared_log),
    "r2": _r2,
}

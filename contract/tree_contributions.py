"""Exact SHAP values of sums of trees: how much each column moves a row's score from the mean.

The value function is the path-dependent one of TreeSHAP: where a column is not known, a tree's
splits by it are weighted by the training rows that went each way. For a leaf of value v, whose path
has conditions on columns 1 to d, column i contributes, over all orders in which the columns
may become known,

    v (o_i - z_i) ∫ Π_{j≠i} (t o_j + (1 - t) z_j) dt, t from 0 to 1,

with o_j 1 where the row fits and 0 where not, and z_j the share of training rows that did. The
integrand is a polynomial of degree d - 1, so Gauss-Legendre quadrature at ⌈d/2⌉ points is exact.

Source: Lundberg et al., "Consistent Individualized Feature Attribution for Tree Ensembles", 2018;
the integral is the multilinear extension of Owen, "Multilinear Extensions of Games", 1972.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from contract.tree_paths import Floats, Numbers, Paths, Singles, TreeArrays, paths

_AT_ONCE = 1 << 16
"""How many numbers are computed together: these fit into a processor's cache."""
_KEPT_LEAVES = 100_000
"""Up to this many leaves, paths are kept from row to row: some 300 bytes each."""
_BLOCK_LEAVES = 1 << 15
"""Leaves whose paths are laid out at a time if all are too many to keep."""


class TreeContributions:
    """Computes what each input of a model contributes to the sums of its trees.

    Parameters
    ----------
    trees
        The trees.
    owner
        The model input that each column was made from, shape (n_columns,).

    Attributes
    ----------
    steps
        The work that a row is: d (d + 1) / 2 for each leaf whose path looks at d columns.
    base_value
        The mean score of the training rows, weighted as the trees weighted them, shape
        (n_outputs,).
    """

    def __init__(self, trees: TreeArrays, owner: Numbers) -> None:
        self._trees = trees
        self._owner = owner
        self._inputs = int(owner.max()) + 1
        self._sums = int(trees.output.max()) + 1
        self._kept = list(self._laid_out()) if len(trees.value) <= _KEPT_LEAVES else None
        self.steps = sum(_steps(one) for one in self._groups())
        self.base_value = trees.base + self._means()

    def of(self, X: Singles) -> Floats:
        """Return the contributions to the scores of rows, shape (n_rows, n_inputs, n_outputs).

        Parameters
        ----------
        X
            What the estimator is handed, shape (n_rows, n_columns).
        """
        bins = self._sums * self._inputs
        totals = np.zeros((len(X), bins, self._trees.value.shape[1]))
        for one in self._groups():
            rows = max(1, _AT_ONCE // (_steps(one) + 1))
            for begin in range(0, len(X), rows):
                part = slice(begin, begin + rows)
                totals[part] += _summed(one, X[part], self._owner, self._inputs, bins)
        per_sum = totals.reshape(len(X), self._sums, self._inputs, -1)
        return per_sum.transpose(0, 2, 1, 3).reshape(len(X), self._inputs, -1)

    def _groups(self) -> Iterator[Paths]:
        yield from self._laid_out() if self._kept is None else self._kept

    def _laid_out(self) -> Iterator[Paths]:
        """Yield the paths that look at any column, a group of trees at a time."""
        for begin, end in _blocks(self._trees):
            yield from (one for one in paths(self._trees, begin, end) if len(one.column))

    def _means(self) -> Floats:
        totals = np.zeros((self._sums, self._trees.value.shape[1]))
        for begin, end in _blocks(self._trees):
            for one in paths(self._trees, begin, end):
                reached = one.share.prod(axis=0)[:, np.newaxis] * one.value
                np.add.at(totals, one.output, reached)
        return totals.reshape(-1)


def _blocks(trees: TreeArrays) -> Sequence[tuple[int, int]]:
    """Return the trees as ranges, each of a few thousand leaves or of one tree."""
    leaves = np.concatenate([[0], np.cumsum(trees.feature < 0)])[trees.first]
    blocks, begin = [], 0
    for end in range(1, len(trees.output) + 1):
        if end == len(trees.output) or leaves[end + 1] - leaves[begin] > _BLOCK_LEAVES:
            blocks.append((begin, end))
            begin = end
    return blocks


def _steps(one: Paths) -> int:
    """Return how many numbers are multiplied for each row: columns times points, by leaf."""
    return one.column.size * (len(one.column) + 1) // 2


def _summed(one: Paths, X: Singles, owner: Numbers, inputs: int, bins: int) -> Floats:
    """Return what leaves contribute, summed by output and model input."""
    per_step = _contributions(one, X)
    place = (one.output * inputs + owner[one.column]).reshape(-1)
    places = (place + bins * np.arange(len(X))[:, np.newaxis]).reshape(-1)
    sums = np.zeros((len(X) * bins, one.value.shape[1]))
    for number, value in enumerate(one.value.T):
        sums[:, number] = np.bincount(places, (per_step * value).reshape(-1), len(sums))
    return sums.reshape(len(X), bins, -1)


@lru_cache
def _quadrature(columns: int) -> tuple[Floats, Floats]:
    """Return points and weights on 0 to 1, shape (n_points, 1, 1), for paths of so many columns."""
    points, weights = np.polynomial.legendre.leggauss((columns + 1) // 2)
    return (points[:, None, None] + 1) / 2, weights[:, None, None] / 2


def _contributions(one: Paths, X: Singles) -> Floats:
    """Return what each step of paths to leaves of value 1 contributes, (n_rows, d, n_leaves)."""
    t, weights = _quadrature(len(one.column))
    fits = one.fitting(X)
    factors = t * fits[:, np.newaxis]
    factors += (1 - t) * one.share
    product = factors.prod(axis=2, keepdims=True) * weights
    without: Floats = np.divide(product, factors, out=factors).sum(axis=1)
    without *= fits - one.share
    return without

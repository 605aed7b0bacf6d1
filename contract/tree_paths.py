"""The trees of a model as paths: the conditions that lead to each leaf, column by column.

A path that splits by one column several times has one condition on it: a range, whether it may be
missing and, for a category, which ones. So even a long path has at most one step per column.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]

_LEAST_SHARE = 1e-30
"""Smaller shares of training rows, such as 0, count as this, because shares are divisors."""


class TreeArrays(NamedTuple):
    """The nodes of all trees, one after the other; a node is known by its position.

    Attributes
    ----------
    first
        The root of each tree, then the number of nodes. Shape (n_trees + 1,).
    output
        The output that each tree adds to, shape (n_trees,).
    feature
        The column that a node splits by; -1: it is a leaf. As all that follow, shape (n_nodes,).
    threshold
        Values up to it go left.
    left, right
        The children.
    missing_left
        Whether a missing value goes left.
    cover
        The weight of the training rows that reached the node.
    category
        The node's row in `goes_left` if it splits by category, else -1.
    goes_left
        Which categories go left, shape (n_category_splits, n_categories); a number beyond the
        last is taken for the last.
    value
        What a leaf adds, shape (n_leaves, n_values), the leaves in the order of their positions.
    base
        What each output's sum begins with, shape (n_outputs,).
    """

    first: Numbers
    output: Numbers
    feature: Numbers
    threshold: Singles
    left: Numbers
    right: Numbers
    missing_left: Flags
    cover: Floats
    category: Numbers
    goes_left: Flags
    value: Floats
    base: Floats


class Paths(NamedTuple):
    """Leaves whose paths look at equally many columns.

    Attributes
    ----------
    column
        The columns, shape (n_columns, n_leaves), as all but the last two.
    above, up_to
        The value must be above the one and not above the other.
    missing
        Whether a missing value fits too.
    share
        The share of training rows that went this way where the column was looked at.
    listed
        The position of each step by category, in the flat order of the others, and which
        categories fit it.
    output, value
        What the leaf's tree adds to, shape (n_leaves,), and what it adds, (n_leaves, n_values).
    """

    column: Numbers
    above: Singles
    up_to: Singles
    missing: Flags
    share: Floats
    listed: tuple[Numbers, Flags]
    output: Numbers
    value: Floats

    def fitting(self, X: Singles) -> Flags:
        """Return which rows of `X` fit which steps, shape (n_rows, n_columns, n_leaves)."""
        values = X[:, self.column]
        fits = (values > self.above) & (values <= self.up_to)
        absent = np.isnan(values)
        position, table = self.listed
        if len(position):
            codes = np.nan_to_num(values.reshape(len(X), -1)[:, position])
            known = np.clip(codes, 0, table.shape[1] - 1).astype(np.intp)
            fits.reshape(len(X), -1)[:, position] &= table[np.arange(len(position)), known]
        return fits | (absent & self.missing)


def paths(trees: TreeArrays, begin: int, end: int) -> Iterator[Paths]:
    """Yield the leaves of trees `begin` to `end`, those whose paths are equally long together."""
    nodes = slice(trees.first[begin], trees.first[end])
    is_leaf = trees.feature[nodes] < 0
    leaves = np.flatnonzero(is_leaf)
    values = trees.value[np.count_nonzero(trees.feature[: nodes.start] < 0) :]
    tree = np.repeat(np.arange(begin, end), np.diff(trees.first[begin : end + 1]))[leaves]
    edges = _Edges(trees, nodes)
    leaf, edge = edges.climb(leaves)
    order = np.lexsort((edges.column[edge], leaf))
    leaf, edge = leaf[order], edge[order]
    column = edges.column[edge]
    starts = np.flatnonzero((np.diff(leaf, prepend=-1) != 0) | (np.diff(column, prepend=-1) != 0))
    steps = edges.merged(edge, starts)
    lengths = np.bincount(leaf[starts], minlength=len(leaves))
    begins = np.cumsum(lengths) - lengths
    for length in np.unique(lengths).tolist():
        own = np.flatnonzero(lengths == length)
        at = begins[own] + np.arange(length)[:, np.newaxis]
        yield Paths(
            column=column[starts][at],
            above=steps.above[at],
            up_to=steps.up_to[at],
            missing=steps.missing[at],
            share=steps.share[at],
            listed=_listed(steps, at),
            output=trees.output[tree[own]],
            value=values[own],
        )


def _listed(steps: _Steps, at: Numbers) -> tuple[Numbers, Flags]:
    rows = steps.row[at].reshape(-1)
    position = np.flatnonzero(rows >= 0)
    return position, steps.fitting[rows[position]]


class _Steps(NamedTuple):
    """A condition on one column each; `row` is its row in `fitting`, -1 for a number."""

    above: Singles
    up_to: Singles
    missing: Flags
    share: Floats
    row: Numbers
    fitting: Flags


class _Edges:
    """The ways to the nodes of some trees, each known by the node that it leads to."""

    def __init__(self, trees: TreeArrays, nodes: slice) -> None:
        feature, cover = trees.feature[nodes], trees.cover[nodes]
        inner = np.flatnonzero(feature >= 0)
        parent = np.full(len(feature), -1)
        left, right = (child[nodes][inner] - nodes.start for child in (trees.left, trees.right))
        parent[left] = parent[right] = inner
        self._is_right = np.zeros(len(feature), bool)
        self._is_right[right] = True
        self._parent = parent  # a root's own are never asked for
        self.column = feature[parent]
        self._threshold = trees.threshold[nodes][parent]
        self._missing = trees.missing_left[nodes][parent] != self._is_right
        with np.errstate(divide="ignore", invalid="ignore"):
            share = cover / cover[parent]
        self._share = np.maximum(np.nan_to_num(share), _LEAST_SHARE)
        self._category = trees.category[nodes][parent]
        self._goes_left = trees.goes_left

    def climb(self, leaves: Numbers) -> tuple[Numbers, Numbers]:
        """Return the ways from the roots to the leaves: the leaf's number and the edge of each."""
        numbers, edges = [], []
        number, edge = np.arange(len(leaves)), leaves
        while len(edge):
            below = self._parent[edge] >= 0
            number, edge = number[below], edge[below]
            numbers.append(number)
            edges.append(edge)
            edge = self._parent[edge]
        return np.concatenate(numbers), np.concatenate(edges)

    def merged(self, edge: Numbers, starts: Numbers) -> _Steps:
        """Return the edges from each start to the next as one step."""
        at, right, category = self._threshold[edge], self._is_right[edge], self._category[edge]
        at = np.where(category < 0, at, np.where(right, -np.inf, np.inf)).astype(np.float32)
        is_category = np.flatnonzero(category[starts] >= 0)
        row = np.full(len(starts), -1)
        row[is_category] = np.arange(len(is_category))
        return _Steps(
            above=np.maximum.reduceat(np.where(right, at, np.float32(-np.inf)), starts),
            up_to=np.minimum.reduceat(np.where(right, np.float32(np.inf), at), starts),
            missing=np.logical_and.reduceat(self._missing[edge], starts),
            share=np.multiply.reduceat(self._share[edge], starts),
            row=row,
            fitting=self._fitting(category, right, starts[is_category]),
        )

    def _fitting(self, category: Numbers, right: Flags, starts: Numbers) -> Flags:
        """Return which categories fit all edges by category from each start to the next."""
        by_category = np.flatnonzero(category >= 0)
        if not len(by_category):
            return np.empty((0, 1), bool)
        fits = self._goes_left[category[by_category]] != right[by_category, np.newaxis]
        return np.logical_and.reduceat(fits, np.searchsorted(by_category, starts), axis=0)

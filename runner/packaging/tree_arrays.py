"""The trees of a fitted estimator as `contract.tree_paths` reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from contract.explained import Space
from contract.tree_paths import TreeArrays
from runner.packaging.boosters import booster_forest
from runner.packaging.forest import Forest, Node
from runner.packaging.hist_gradient_boosting import histogram_forest
from runner.recipes.estimators import BOOSTERS

_SPACES: dict[str, Space] = {
    "sigmoid": "log_odds",
    "softmax": "class_score",
    "exp": "log_label",
    "": "label",
}


def tree_arrays(estimator: Any) -> tuple[TreeArrays, Space] | None:
    """Return the trees and what their sums are; None if the estimator is no sum of trees."""
    name = type(estimator).__name__
    if type(estimator).__module__.startswith(BOOSTERS):
        return _of_forest(booster_forest(estimator))
    if name.startswith("HistGradientBoosting"):
        return _of_forest(histogram_forest(estimator))
    if name.startswith("GradientBoosting"):
        return _gradient_boosting(estimator)
    if name.startswith(("RandomForest", "ExtraTrees")):
        return _voting([one.tree_ for one in estimator.estimators_], estimator)
    if name.startswith("DecisionTree"):
        return _voting([estimator.tree_], estimator)
    return None


def _voting(trees: Sequence[Any], estimator: Any) -> tuple[TreeArrays, Space]:
    """Return scikit-learn's trees, whose answers are averaged."""
    value = np.concatenate([tree.value[tree.children_left < 0, 0] for tree in trees])
    is_classifier = hasattr(estimator, "classes_")
    if is_classifier and len(estimator.classes_) == 2:
        value = value[:, 1:]
    base = np.zeros(value.shape[1])
    output = np.zeros(len(trees), np.intp)
    arrays = _of_trees(trees, output, value / len(trees), base)
    return arrays, "probability" if is_classifier else "label"


def _gradient_boosting(estimator: Any) -> tuple[TreeArrays, Space]:
    """Return scikit-learn's trees, whose answers are added to a constant."""
    rounds, outputs = estimator.estimators_.shape
    trees = [one.tree_ for one in estimator.estimators_.reshape(-1)]
    value = np.concatenate([tree.value[tree.children_left < 0, 0] for tree in trees])
    base = estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), np.float32))[0]
    # The probability of the exponential loss is the sigmoid of twice the sum.
    scale = 2.0 if estimator.loss == "exponential" else 1.0
    arrays = _of_trees(
        trees,
        np.tile(np.arange(outputs), rounds),
        value * estimator.learning_rate * scale,
        base * scale,
    )
    if not hasattr(estimator, "classes_"):
        return arrays, "label"
    return arrays, "log_odds" if outputs == 1 else "class_score"


def _of_trees(
    trees: Sequence[Any],
    output: npt.NDArray[np.intp],
    value: npt.NDArray[np.float64],
    base: npt.NDArray[np.float64],
) -> TreeArrays:
    counts = [tree.node_count for tree in trees]
    first = np.concatenate([[0], np.cumsum(counts)])
    before = np.repeat(first[:-1], counts)

    def joined(name: str) -> npt.NDArray[np.generic]:
        return np.concatenate([getattr(tree, name) for tree in trees])

    left = joined("children_left").astype(np.intp)
    is_leaf = left < 0
    return TreeArrays(
        first=first,
        output=output,
        feature=np.where(is_leaf, -1, joined("feature").astype(np.intp)),
        threshold=_float32_not_above(joined("threshold").astype(np.float64)),
        left=left + before,
        right=joined("children_right").astype(np.intp) + before,
        missing_left=joined("missing_go_to_left").astype(bool),
        cover=joined("weighted_n_node_samples").astype(np.float64),
        category=np.full(len(left), -1),
        goes_left=np.empty((0, 1), bool),
        value=value,
        base=base,
    )


def _float32_not_above(thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return the largest float32 not above each: a float32 is not above one or not above both."""
    near = thresholds.astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)


def _of_forest(forest: Forest) -> tuple[TreeArrays, Space]:
    counts = [len(tree) for tree in forest.trees]
    first = np.concatenate([[0], np.cumsum(counts)])
    before = np.repeat(first[:-1], counts)
    nodes = [node for tree in forest.trees for node in tree]
    left = np.array([node.left for node in nodes])
    is_leaf = left == 0
    threshold = np.array([node.threshold for node in nodes]).astype(np.float32)
    if forest.left_if == "BRANCH_LT":
        threshold = np.nextafter(threshold, np.float32(-np.inf))
    splits = [node for node in nodes if node.categories is not None]
    category = np.full(len(nodes), -1)
    category[[node.categories is not None for node in nodes]] = np.arange(len(splits))
    arrays = TreeArrays(
        first=first,
        output=np.array(forest.outputs, np.intp),
        feature=np.where(is_leaf, -1, [node.feature for node in nodes]),
        threshold=threshold,
        left=left + before,
        right=np.array([node.right for node in nodes]) + before,
        missing_left=np.array([node.missing_left for node in nodes]),
        cover=np.array([node.cover for node in nodes], np.float64),
        category=category,
        goes_left=_goes_left(splits),
        value=np.array([[node.value] for node in nodes])[is_leaf],
        base=np.array(forest.base, np.float64),
    )
    return arrays, _SPACES[forest.link]


def _goes_left(splits: Sequence[Node]) -> npt.NDArray[np.bool_]:
    """Return which categories each split sends left; the last column is of any other."""
    listed = [split.categories or frozenset() for split in splits]
    width = max((max(one, default=0) for one in listed), default=-1) + 2
    table = np.zeros((len(splits), width), bool)
    for row, one in enumerate(listed):
        table[row, sorted(one)] = True
    for row, split in enumerate(splits):
        if not split.listed_left:
            table[row] = ~table[row]
    return table

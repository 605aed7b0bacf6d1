"""scikit-learn's HistGradientBoosting with native categories as ONNX.

skl2onnx converts it without a word, and wrong: it compares the number of a category with a
threshold that is none. What has no categories is left to skl2onnx.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from skl2onnx.common._registration import get_converter
from sklearn.base import is_classifier
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from runner.packaging.forest import Forest, Node, float32_below, teach_forest, write_forest

_LINKS = {
    **dict.fromkeys(("squared_error", "absolute_error", "quantile"), ""),
    **dict.fromkeys(("poisson", "gamma"), "exp"),
}


def teach_hist_gradient_boosting() -> None:
    """Let skl2onnx convert HistGradientBoosting estimators, with categories or without."""
    for cls in (HistGradientBoostingClassifier, HistGradientBoostingRegressor):
        teach_forest(cls, _convert)


def _convert(scope: Any, operator: Any, container: Any) -> None:
    estimator = operator.raw_operator
    if estimator.is_categorical_ is None:
        get_converter(f"Sklearn{type(estimator).__name__}")(scope, operator, container)
    else:
        write_forest(scope, operator, container, histogram_forest(estimator))


def histogram_forest(estimator: Any) -> Forest:
    """Return the trees of a fitted HistGradientBoosting estimator."""
    base = np.ravel(estimator._baseline_prediction).tolist()
    if is_classifier(estimator):
        link = "sigmoid" if len(base) == 1 else "softmax"
    else:
        link = _LINKS[estimator.loss]
    # It moves categories to the front before it grows its trees.
    is_category = estimator.is_categorical_
    if is_category is None:
        is_category = np.zeros(estimator.n_features_in_, bool)
    positions = [*np.flatnonzero(is_category), *np.flatnonzero(~is_category)]
    predictors = [
        (output, tree)
        for iteration in estimator._predictors
        for output, tree in enumerate(iteration)
    ]
    return Forest(
        trees=[list(_nodes(tree, positions)) for _, tree in predictors],
        outputs=[output for output, _ in predictors],
        base=base,
        left_if="BRANCH_LEQ",
        link=link,
    )


def _nodes(tree: Any, positions: list[int]) -> Iterator[Node]:
    """Yield a tree's nodes in their own order, the root first."""
    for node in tree.nodes:
        if node["is_leaf"]:
            yield Node(value=float(node["value"]), cover=float(node["count"]))
            continue
        split = Node(
            feature=int(positions[node["feature_idx"]]),
            left=int(node["left"]),
            right=int(node["right"]),
            missing_left=bool(node["missing_go_to_left"]),
            cover=float(node["count"]),
        )
        if node["is_categorical"]:
            listed = _members(tree.raw_left_cat_bitsets[node["bitset_idx"]])
            yield split._replace(categories=listed)
        else:
            yield split._replace(threshold=float32_below(float(node["num_threshold"])))


def _members(bits: npt.NDArray[np.uint32]) -> frozenset[int]:
    """Return the numbers whose bit is set, of 256 in words of 32."""
    numbers = np.arange(32 * len(bits))
    is_set = bits[numbers // 32] >> (numbers % 32).astype(np.uint32) & 1
    return frozenset(numbers[is_set.astype(bool)].tolist())

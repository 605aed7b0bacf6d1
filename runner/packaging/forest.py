"""Sums of trees as ONNX, for skl2onnx: what the readers of each library's models have in common.

ONNX's trees compare numbers. A split by category becomes one by 0 or 1: before the trees, a table
per feature says for each category which of its splits send it right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from onnx import TensorProto
from skl2onnx import update_registered_converter
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)
from sklearn.base import is_classifier

from runner.packaging.converter_graph import ConverterGraph

_CLASSIFIER_OPTIONS = {
    "zipmap": [True, False],
    "nocl": [False],
    "output_class_labels": [False],
    "raw_scores": [True, False],
}


class Node(NamedTuple):
    """A split, or a leaf if it has no children.

    Attributes
    ----------
    left, right
        Positions of the children in the tree's list.
    missing_left
        Whether a missing value goes left.
    categories
        Where the split is by category, not by the threshold: those that are listed.
    listed_left
        Whether the listed categories go left and the others right, or the other way round.
    value
        The leaf's summand.
    cover
        The weight of the training rows that reached the node.
    """

    value: float = 0.0
    feature: int = 0
    threshold: float = 0.0
    left: int = 0
    right: int = 0
    missing_left: bool = False
    categories: frozenset[int] | None = None
    listed_left: bool = True
    cover: float = 0.0


@dataclass(frozen=True)
class Forest:
    """A model: sums of trees behind a link function.

    Attributes
    ----------
    trees
        Each tree's nodes, the root first.
    outputs
        The output that each tree adds to.
    base
        What each output's sum begins with.
    left_if
        ONNX's word for how a value is compared to the threshold to go left.
    """

    trees: Sequence[Sequence[Node]]
    outputs: Sequence[int]
    base: Sequence[float]
    left_if: str
    link: str


def teach_forest(cls: type, convert: Callable[[Any, Any, Any], None]) -> None:
    """Let skl2onnx convert estimators of `cls` with `convert`, which calls `write_forest`."""
    classifies = cls.__name__.endswith("Classifier")
    update_registered_converter(
        cls,
        cls.__name__,
        calculate_linear_classifier_output_shapes
        if classifies
        else calculate_linear_regressor_output_shapes,
        convert,
        options=_CLASSIFIER_OPTIONS if classifies else None,
    )


def write_forest(scope: Any, operator: Any, container: Any, forest: Forest) -> None:
    """Write `forest` as the ONNX of the estimator that skl2onnx converts in `operator`."""
    estimator, graph = operator.raw_operator, ConverterGraph(scope, container)
    numbers = graph.add("Cast", operator.inputs[0].full_name, to=TensorProto.FLOAT)
    numbers, forest = _without_categories(graph, numbers, forest, estimator.n_features_in_)
    sums = graph.add(
        "TreeEnsembleRegressor", numbers, **_ensemble(forest), op_domain="ai.onnx.ml", op_version=3
    )
    if not is_classifier(estimator):
        [predictions] = [output.full_name for output in operator.outputs]
        link = {"exp": "Exp", "sigmoid": "Sigmoid", "": "Identity"}[forest.link]
        graph.add(link, sums, predictions)
        return
    labels, probabilities = [output.full_name for output in operator.outputs]
    is_raw = scope.get_options(estimator, {"raw_scores": False})["raw_scores"]
    _write_probabilities(graph, sums, probabilities, link=forest.link, is_raw=is_raw)
    classes = graph.constant(estimator.classes_.tolist())
    position = graph.add("ArgMax", probabilities, axis=1, keepdims=0)
    graph.add("Gather", [classes, position], labels)


def _write_probabilities(
    graph: ConverterGraph, sums: str, output: str, *, link: str, is_raw: bool
) -> None:
    """Write the probabilities of all classes as `output`; if `is_raw`, the scores behind them."""
    if link == "softmax" and is_raw:
        graph.add("Identity", sums, output)
    elif link == "softmax":
        graph.add("Softmax", sums, output, axis=1)
    elif is_raw:
        graph.add("Concat", [graph.add("Neg", sums), sums], output, axis=1)
    else:
        second = graph.add("Sigmoid", sums)
        first = graph.add("Sub", [graph.constant([1.0]), second])
        graph.add("Concat", [first, second], output, axis=1)


def _without_categories(
    graph: ConverterGraph, numbers: str, forest: Forest, width: int
) -> tuple[str, Forest]:
    """Return inputs and trees in which each split by category compares a 0 or 1 of its own.

    Parameters
    ----------
    width
        The number of columns of `numbers`.
    """
    splits = dict.fromkeys(
        _CategorySplit(node.feature, node.categories, node.listed_left, node.missing_left)
        for tree in forest.trees
        for node in tree
        if node.categories is not None
    )
    if not splits:
        return numbers, forest
    parts: list[str] = [numbers]
    columns: dict[_CategorySplit, int] = {}
    for feature in sorted({split.feature for split in splits}):
        own = [split for split in splits if split.feature == feature]
        columns |= {split: width + len(columns) + i for i, split in enumerate(own)}
        parts.append(_sent_right(graph, numbers, own))
    trees = [[_compared(node, columns) for node in tree] for tree in forest.trees]
    return graph.add("Concat", parts, axis=1), replace(forest, trees=trees)


class _CategorySplit(NamedTuple):
    """A split by the category that is in the column `feature`; see Node."""

    feature: int
    categories: frozenset[int]
    listed_left: bool
    missing_left: bool

    def right(self, known: int) -> list[bool]:
        """Return if it sends right: categories 0 to `known`, any other one, a missing value."""
        listed = [number in self.categories for number in range(known + 2)]
        return [*(is_listed != self.listed_left for is_listed in listed), not self.missing_left]


def _compared(node: Node, columns: dict[_CategorySplit, int]) -> Node:
    if node.categories is None:
        return node
    split = _CategorySplit(node.feature, node.categories, node.listed_left, node.missing_left)
    return node._replace(feature=columns[split], threshold=0.5, categories=None)


def _sent_right(graph: ConverterGraph, numbers: str, splits: Sequence[_CategorySplit]) -> str:
    """Return which of the splits, all of one feature, send a row right: 0 or 1 in a column each."""
    known = max(max(split.categories, default=0) for split in splits)
    table = np.array([split.right(known) for split in splits], np.float32).T
    code = graph.add("Gather", [numbers, graph.constant(splits[0].feature)], axis=1)
    other = graph.add("Min", [code, graph.constant([float(known + 1)])])
    missing = graph.constant([float(known + 2)])
    row = graph.add("Where", [graph.add("IsNaN", code), missing, other])
    return graph.add(
        "Gather", [graph.constant(table), graph.add("Cast", row, to=TensorProto.INT64)], axis=0
    )


def _ensemble(forest: Forest) -> dict[str, Any]:
    """Return the attributes of TreeEnsembleRegressor."""
    nodes = [
        (tree, position, node)
        for tree, nodes in enumerate(forest.trees)
        for position, node in enumerate(nodes)
    ]
    leaves = [(tree, position, node) for tree, position, node in nodes if not node.right]
    return {
        "nodes_treeids": [tree for tree, _, _ in nodes],
        "nodes_nodeids": [position for _, position, _ in nodes],
        "nodes_featureids": [node.feature for _, _, node in nodes],
        "nodes_modes": [forest.left_if if node.right else "LEAF" for _, _, node in nodes],
        "nodes_values": [node.threshold for _, _, node in nodes],
        "nodes_truenodeids": [node.left for _, _, node in nodes],
        "nodes_falsenodeids": [node.right for _, _, node in nodes],
        "nodes_missing_value_tracks_true": [int(node.missing_left) for _, _, node in nodes],
        "target_treeids": [tree for tree, _, _ in leaves],
        "target_nodeids": [position for _, position, _ in leaves],
        "target_ids": [forest.outputs[tree] for tree, _, _ in leaves],
        "target_weights": [node.value for _, _, node in leaves],
        "base_values": forest.base,
        "n_targets": len(forest.base),
        "aggregate_function": "SUM",
        "post_transform": "NONE",
    }


def float32_below(value: float) -> float:
    """Return the largest float32 that is not above `value`.

    LightGBM compares doubles. For a finite float32 x, x ≤ value if and only if x ≤ this. A split of
    the missing from the others has the threshold 1e300.
    """
    near = np.float32(min(value, float(np.finfo(np.float32).max)))
    return float(near if float(near) <= value else np.nextafter(near, np.float32(-np.inf)))

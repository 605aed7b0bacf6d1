"""The trees of LightGBM and XGBoost as ONNX, for skl2onnx, which knows scikit-learn's only.

Both libraries' models are sums of trees behind a link function. The trees become ONNX's
TreeEnsembleRegressor, the link a node or two behind it. What a model may hold beyond that (splits
by category, linear leaves, other objectives) raises, and is not served.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from onnx import TensorProto
from skl2onnx import update_registered_converter
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)
from sklearn.base import is_classifier

_LIGHTGBM_LINKS = {
    "binary sigmoid:1": "sigmoid",
    "cross_entropy": "sigmoid",
    "multiclass": "softmax",
    **dict.fromkeys(("regression", "regression_l1", "huber", "fair", "quantile", "mape"), ""),
    **dict.fromkeys(("poisson", "gamma", "tweedie"), "exp"),
}
_XGBOOST_LINKS = {
    **dict.fromkeys(("binary:logistic", "reg:logistic"), "sigmoid"),
    "multi:softprob": "softmax",
    **dict.fromkeys(("reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror"), ""),
    **dict.fromkeys(("count:poisson", "reg:gamma", "reg:tweedie"), "exp"),
}


class _Node(NamedTuple):
    """A split, or a leaf if it has no children.

    Attributes
    ----------
    left, right
        Positions of the children in the tree's list.
    missing_left
        Whether a missing value goes left.
    value
        The leaf's summand.
    """

    value: float = 0.0
    feature: int = 0
    threshold: float = 0.0
    left: int = 0
    right: int = 0
    missing_left: bool = False


@dataclass(frozen=True)
class _Forest:
    """A model of either library.

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

    trees: list[list[_Node]]
    outputs: list[int]
    base: list[float]
    left_if: str
    link: str


def teach_skl2onnx() -> None:
    """Let skl2onnx convert the estimators of LightGBM and XGBoost, as far as they are imported."""
    for package, prefix in (("lightgbm", "LGBM"), ("xgboost", "XGB")):
        module = sys.modules.get(package)
        if module is None:
            continue
        update_registered_converter(
            getattr(module, f"{prefix}Classifier"),
            f"{prefix}Classifier",
            calculate_linear_classifier_output_shapes,
            _convert,
            options={
                "zipmap": [True, False],
                "nocl": [False],
                "output_class_labels": [False],
                "raw_scores": [True, False],
            },
        )
        update_registered_converter(
            getattr(module, f"{prefix}Regressor"),
            f"{prefix}Regressor",
            calculate_linear_regressor_output_shapes,
            _convert,
        )


def _convert(scope: Any, operator: Any, container: Any) -> None:
    estimator = operator.raw_operator
    lightgbm = type(estimator).__module__.startswith("lightgbm.")
    forest = _lightgbm(estimator) if lightgbm else _xgboost(estimator)

    def add(op: str, inputs: Any, output: str = "", **attributes: Any) -> str:
        output = output or scope.get_unique_variable_name(op.lower())
        name = scope.get_unique_operator_name(op)
        container.add_node(op, inputs, output, name=name, **attributes)
        return output

    numbers = add("Cast", operator.inputs[0].full_name, to=TensorProto.FLOAT)
    ensemble = {**_ensemble(forest), "op_domain": "ai.onnx.ml", "op_version": 3}
    if not is_classifier(estimator):
        [predictions] = [output.full_name for output in operator.outputs]
        link = {"exp": "Exp", "sigmoid": "Sigmoid", "": "Identity"}[forest.link]
        add(link, add("TreeEnsembleRegressor", numbers, **ensemble), predictions)
        return
    labels, probabilities = [output.full_name for output in operator.outputs]
    sums = add("TreeEnsembleRegressor", numbers, **ensemble)
    is_raw = scope.get_options(estimator, {"raw_scores": False})["raw_scores"]
    if is_raw and forest.link == "sigmoid":
        add("Concat", [add("Neg", sums), sums], probabilities, axis=1)
    elif is_raw:
        add("Identity", sums, probabilities)
    elif forest.link == "sigmoid":
        second = add("Sigmoid", sums)
        one = scope.get_unique_variable_name("one")
        container.add_initializer(one, TensorProto.FLOAT, [1], [1.0])
        add("Concat", [add("Sub", [one, second]), second], probabilities, axis=1)
    else:
        add("Softmax", sums, probabilities, axis=1)
    classes = scope.get_unique_variable_name("classes")
    values = estimator.classes_.tolist()
    kind = TensorProto.STRING if isinstance(values[0], str) else TensorProto.INT64
    container.add_initializer(classes, kind, [len(values)], values)
    add("Gather", [classes, add("ArgMax", probabilities, axis=1, keepdims=0)], labels)


def _ensemble(forest: _Forest) -> dict[str, Any]:
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


def _lightgbm(estimator: Any) -> _Forest:
    model = estimator.booster_.dump_model()
    objective = model["objective"]
    name = objective if objective.startswith("binary") else objective.partition(" ")[0]
    if name not in _LIGHTGBM_LINKS or objective.endswith(" sqrt"):
        raise NotImplementedError(f"objective {objective!r}")
    outputs = model["num_tree_per_iteration"]
    trees = model["tree_info"]
    # A random forest answers the mean of its trees, all others the sum.
    share = outputs / len(trees) if model["average_output"] else 1.0
    return _Forest(
        trees=[list(_lightgbm_nodes(tree["tree_structure"], share)) for tree in trees],
        outputs=[tree % outputs for tree in range(len(trees))],
        base=[0.0] * outputs,
        left_if="BRANCH_LEQ",
        link=_LIGHTGBM_LINKS[name],
    )


def _lightgbm_nodes(root: dict[str, Any], share: float) -> Iterator[_Node]:
    """Yield a tree's nodes, breadth first."""
    nodes, seen = [root], 0
    while seen < len(nodes):
        node = nodes[seen]
        seen += 1
        if "leaf_value" in node:
            yield _Node(value=node["leaf_value"] * share)
            continue
        if node["decision_type"] != "<=" or node["missing_type"] == "Zero":
            raise NotImplementedError("a split by category, or zero as missing")
        left = len(nodes)
        nodes += [node["left_child"], node["right_child"]]
        threshold = node["threshold"]
        yield _Node(
            feature=node["split_feature"],
            threshold=_float32_below(threshold),
            left=left,
            right=left + 1,
            # LightGBM takes a missing value for 0 where the training rows had none.
            missing_left=(
                node["default_left"] if node["missing_type"] == "NaN" else threshold >= 0.0
            ),
        )


def _float32_below(value: float) -> float:
    """Return the largest float32 that is not above `value`.

    LightGBM compares doubles. For a finite float32 x, x ≤ value if and only if x ≤ this. A split of
    the missing from the others has the threshold 1e300.
    """
    near = np.float32(min(value, float(np.finfo(np.float32).max)))
    return float(near if float(near) <= value else np.nextafter(near, np.float32(-np.inf)))


def _xgboost(estimator: Any) -> _Forest:
    learner = json.loads(estimator.get_booster().save_raw("json"))["learner"]
    objective, booster = learner["objective"]["name"], learner["gradient_booster"]
    if objective not in _XGBOOST_LINKS or booster["name"] != "gbtree":
        raise NotImplementedError(f"objective {objective!r} of booster {booster['name']!r}")
    if not math.isnan(estimator.missing):
        raise NotImplementedError(f"missing {estimator.missing}")
    link, model = _XGBOOST_LINKS[objective], booster["model"]
    outputs = max(1, int(learner["learner_model_param"]["num_class"]))
    # One number, or since XGBoost 3 a list of one or one for each class.
    base = np.atleast_1d(json.loads(learner["learner_model_param"]["base_score"])).tolist()
    return _Forest(
        trees=[list(_xgboost_nodes(tree)) for tree in model["trees"]],
        outputs=model["tree_info"],
        base=[_before(link, float(value)) for value in base * (outputs // len(base))],
        left_if="BRANCH_LT",
        link=link,
    )


def _before(link: str, score: float) -> float:
    """Return what the link function turns into `score`."""
    if link == "sigmoid":
        return math.log(score / (1.0 - score))
    return math.log(score) if link == "exp" else score


def _xgboost_nodes(tree: dict[str, Any]) -> Iterator[_Node]:
    """Yield a tree's nodes, breadth first; those that were pruned hang on nothing and stay out."""
    if any(tree["split_type"]) or int(tree["tree_param"]["size_leaf_vector"]) > 1:
        raise NotImplementedError("a split by category, or a leaf of several outputs")
    nodes, seen = [0], 0
    while seen < len(nodes):
        node = nodes[seen]
        seen += 1
        number = tree["split_conditions"][node]
        if tree["left_children"][node] < 0:
            yield _Node(value=number)
            continue
        left = len(nodes)
        nodes += [tree["left_children"][node], tree["right_children"][node]]
        yield _Node(
            feature=tree["split_indices"][node],
            threshold=number,
            left=left,
            right=left + 1,
            missing_left=bool(tree["default_left"][node]),
        )

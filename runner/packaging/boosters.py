"""The trees of LightGBM and XGBoost as ONNX, for skl2onnx, which knows scikit-learn's only.

Both libraries' models are sums of trees behind a link function. The trees become ONNX's
TreeEnsembleRegressor, the link a node or two behind it. What a model may hold beyond that (linear
leaves, other objectives) raises, and is not served.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from runner.packaging.forest import Forest, Node, float32_below, teach_forest, write_forest

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


def teach_boosters() -> None:
    """Let skl2onnx convert the estimators of LightGBM and XGBoost, as far as they are imported."""
    for package, prefix in (("lightgbm", "LGBM"), ("xgboost", "XGB")):
        module = sys.modules.get(package)
        if module is None:
            continue
        for kind in ("Classifier", "Regressor"):
            teach_forest(getattr(module, f"{prefix}{kind}"), _convert)


def _convert(scope: Any, operator: Any, container: Any) -> None:
    write_forest(scope, operator, container, booster_forest(operator.raw_operator))


def booster_forest(estimator: Any) -> Forest:
    """Return the trees of a fitted estimator of LightGBM or XGBoost.

    Raises
    ------
    NotImplementedError
        If it holds more than those.
    """
    is_lightgbm = type(estimator).__module__.startswith("lightgbm.")
    return _lightgbm(estimator) if is_lightgbm else _xgboost(estimator)


def _lightgbm(estimator: Any) -> Forest:
    model = estimator.booster_.dump_model()
    objective = model["objective"]
    name = objective if objective.startswith("binary") else objective.partition(" ")[0]
    if name not in _LIGHTGBM_LINKS or objective.endswith(" sqrt"):
        raise NotImplementedError(f"objective {objective!r}")
    outputs = model["num_tree_per_iteration"]
    trees = model["tree_info"]
    # A random forest answers the mean of its trees, all others the sum.
    share = outputs / len(trees) if model["average_output"] else 1.0
    return Forest(
        trees=[list(_lightgbm_nodes(tree["tree_structure"], share)) for tree in trees],
        outputs=[tree % outputs for tree in range(len(trees))],
        base=[0.0] * outputs,
        left_if="BRANCH_LEQ",
        link=_LIGHTGBM_LINKS[name],
    )


def _lightgbm_nodes(root: dict[str, Any], share: float) -> Iterator[Node]:
    """Yield a tree's nodes, breadth first."""
    nodes, seen = [root], 0
    while seen < len(nodes):
        node = nodes[seen]
        seen += 1
        if "leaf_value" in node:
            # A tree of one leaf has no count.
            yield Node(value=node["leaf_value"] * share, cover=node.get("leaf_count", 1))
            continue
        if node["missing_type"] == "Zero":
            raise NotImplementedError("zero as missing")
        left = len(nodes)
        nodes += [node["left_child"], node["right_child"]]
        threshold = node["threshold"]
        split = Node(
            feature=node["split_feature"],
            left=left,
            right=left + 1,
            cover=node["internal_count"],
        )
        if node["decision_type"] == "==":  # those listed go left, the missing right
            listed = frozenset(map(int, threshold.split("||")))
            yield split._replace(categories=listed)
            continue
        yield split._replace(
            threshold=float32_below(threshold),
            # LightGBM takes a missing value for 0 where the training rows had none.
            missing_left=(
                node["default_left"] if node["missing_type"] == "NaN" else threshold >= 0.0
            ),
        )


def _xgboost(estimator: Any) -> Forest:
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
    return Forest(
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


def _xgboost_nodes(tree: dict[str, Any]) -> Iterator[Node]:
    """Yield a tree's nodes, breadth first; those that were pruned hang on nothing and stay out."""
    if int(tree["tree_param"]["size_leaf_vector"]) > 1:
        raise NotImplementedError("a leaf of several outputs")
    listed = _xgboost_categories(tree)
    nodes, seen = [0], 0
    while seen < len(nodes):
        node = nodes[seen]
        seen += 1
        number, cover = tree["split_conditions"][node], tree["sum_hessian"][node]
        if tree["left_children"][node] < 0:
            yield Node(value=number, cover=cover)
            continue
        left = len(nodes)
        nodes += [tree["left_children"][node], tree["right_children"][node]]
        yield Node(
            feature=tree["split_indices"][node],
            threshold=number,
            left=left,
            right=left + 1,
            missing_left=bool(tree["default_left"][node]),
            categories=listed.get(node),
            listed_left=False,
            cover=cover,
        )


def _xgboost_categories(tree: dict[str, Any]) -> dict[int, frozenset[int]]:
    """Return the categories that go right, by the number of the node that splits by them."""
    parts = zip(
        *(tree[f"categories_{part}"] for part in ("nodes", "segments", "sizes")), strict=True
    )
    return {
        node: frozenset(tree["categories"][begin : begin + size]) for node, begin, size in parts
    }

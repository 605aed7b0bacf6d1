"""Contributions are the SHAP values: by their definition, and as the shap package has them."""

import json
from functools import partial
from itertools import combinations
from math import factorial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from contract import tree_contributions
from contract.linear_contributions import LinearArrays, LinearContributions
from contract.tree_contributions import TreeContributions
from contract.tree_paths import TreeArrays
from runner.packaging.explanation import linear_arrays
from runner.packaging.tree_arrays import tree_arrays
from tests.shap_values.models import EXPLAINED_ROWS, models

COLUMNS = 4
NAN = float("nan")
SHAP = json.loads((Path(__file__).parents[1] / "shap_values/values.json").read_text())["models"]


def shapley(value, players):
    """Return the Shapley values by their definition: a sum over all coalitions."""
    share = [factorial(k) * factorial(players - 1 - k) / factorial(players) for k in range(players)]
    found = []
    for player in range(players):
        others = [other for other in range(players) if other != player]
        coalitions = [set(c) for k in range(players) for c in combinations(others, k)]
        found.append(sum(share[len(c)] * (value(c | {player}) - value(c)) for c in coalitions))
    return np.array(found)


class Tree:
    """A tree to draw: a leaf with a value, or a split with two trees."""

    def __init__(self, cover, value=0.0, split=None, children=()):
        self.cover, self.value, self.split, self.children = cover, value, split, children

    def goes_left(self, x):
        column, at, missing_left, listed = self.split
        if np.isnan(x[column]):
            return missing_left
        return x[column] in listed if listed is not None else x[column] <= at

    def expected(self, x, known):
        """Return the value where only some columns are known, weighed with the training rows."""
        if not self.children:
            return self.value
        left, right = (child.expected(x, known) for child in self.children)
        if self.split[0] in known:
            return left if self.goes_left(x) else right
        return sum(
            child.cover / self.cover * value
            for child, value in zip(self.children, (left, right), strict=True)
        )

    def nodes(self):
        """Return the tree's nodes, and the positions of each one's children."""
        nodes, children, seen = [self], [], 0
        while seen < len(nodes):
            children.append([len(nodes) + i for i in range(len(nodes[seen].children))])
            nodes += nodes[seen].children
            seen += 1
        return nodes, children


CODES = 4
SPLITS = st.tuples(
    st.integers(0, COLUMNS - 2), st.sampled_from([-1.0, 0.0, 1.5]), st.booleans(), st.none()
) | st.tuples(
    st.just(COLUMNS - 1), st.just(0.0), st.booleans(), st.frozensets(st.integers(0, CODES - 2))
)


@st.composite
def drawn_trees(draw, depth=5):
    if not depth or draw(st.integers(0, 5)) == 0:
        return Tree(draw(st.integers(1, 50)), draw(st.floats(-3, 3)))
    children = [draw(drawn_trees(depth - 1)) for _ in range(2)]
    return Tree(sum(child.cover for child in children), 0.0, draw(SPLITS), children)


def arrays_of(trees, outputs):
    parts = [tree.nodes() for tree in trees]
    first = np.cumsum([0, *(len(nodes) for nodes, _ in parts)])
    nodes = [node for own, _ in parts for node in own]
    at = [
        [start + child for child in own] or [-1, -1]
        for start, (_, children) in zip(first, parts, strict=False)
        for own in children
    ]
    split = [node.split or (-1, 0.0, False, None) for node in nodes]
    by_category = [i for i, (*_, listed) in enumerate(split) if listed is not None]
    category = np.full(len(nodes), -1)
    category[by_category] = np.arange(len(by_category))
    return TreeArrays(
        first=first,
        output=np.array(outputs),
        feature=np.array([column for column, *_ in split]),
        threshold=np.array([at for _, at, *_ in split], np.float32),
        left=np.array([left for left, _ in at]),
        right=np.array([right for _, right in at]),
        missing_left=np.array([left for *_, left, _ in split]),
        cover=np.array([node.cover for node in nodes], float),
        category=category,
        goes_left=np.array(
            [[code in split[i][3] for code in range(CODES)] for i in by_category], bool
        ).reshape(-1, CODES),
        value=np.array([[node.value] for node in nodes if not node.children]),
        base=np.array([0.25, -1.0]),
    )


NUMBERS = st.sampled_from([NAN, -2.0, -1.0, -0.5, 0.0, 1.0, 1.5, 7.0])
ROWS = st.tuples(*[NUMBERS] * (COLUMNS - 1), st.sampled_from([NAN, *map(float, range(CODES + 2))]))


@settings(max_examples=60, deadline=None)
@given(st.lists(drawn_trees(), min_size=2, max_size=4), st.lists(ROWS, min_size=1, max_size=3))
def test_trees_contribute_their_shapley_values_by_definition(trees, rows):
    outputs = [number % 2 for number in range(len(trees))]
    found = TreeContributions(arrays_of(trees, outputs), np.arange(COLUMNS))
    X = np.array(rows, np.float32)
    contributions = found.of(X)
    for output, base in enumerate([0.25, -1.0]):
        own = trees[output::2]
        mean = base + sum(tree.expected(None, set()) for tree in own)
        assert found.base_value[output] == pytest.approx(mean, abs=1e-12)
        for x, values in zip(X, contributions[:, :, output], strict=True):
            expected = sum(shapley(partial(tree.expected, x), COLUMNS) for tree in own)
            np.testing.assert_allclose(values, expected, rtol=0, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.lists(drawn_trees(), min_size=2, max_size=6), st.lists(ROWS, min_size=1, max_size=9))
def test_large_models_are_laid_out_in_blocks_and_rows_taken_in_parts(trees, rows):
    arrays = arrays_of(trees, [number % 2 for number in range(len(trees))])
    X, owner = np.array(rows, np.float32), np.array([0, 1, 1, 0])
    whole = TreeContributions(arrays, owner)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_KEPT_LEAVES", "_BLOCK_LEAVES", "_AT_ONCE"):
            patch.setattr(tree_contributions, name, 3)
        parts = TreeContributions(arrays, owner)
        np.testing.assert_allclose(parts.of(X), whole.of(X), atol=1e-12)
    np.testing.assert_allclose(parts.base_value, whole.base_value, atol=1e-12)
    assert parts.steps == whole.steps


def test_columns_of_one_input_are_added_up():
    [tree] = [Tree(10, 0, (0, 0.0, True, None), [Tree(4, 1.0), Tree(6, 3.0)])]
    arrays = arrays_of([tree, tree], [0, 1])
    each = TreeContributions(arrays, np.arange(COLUMNS)).of(np.zeros((2, COLUMNS), np.float32))
    owned = TreeContributions(arrays, np.array([1, 0, 1, 1])).of(np.zeros((2, 4), np.float32))
    np.testing.assert_allclose(owned[:, 1], each[:, [0, 2, 3]].sum(axis=1))
    np.testing.assert_allclose(owned[:, 0], each[:, 1])


@given(
    st.lists(st.lists(st.floats(-9, 9), min_size=3, max_size=3), min_size=2, max_size=6),
    st.lists(st.floats(-9, 9), min_size=3, max_size=3),
)
def test_a_linear_model_contributes_its_shapley_values_by_definition(rows, coefficients):
    X, w = np.array(rows), np.array(coefficients)
    found = LinearContributions(LinearArrays(w[None], np.array([2.0]), X.mean(0)), np.arange(3))
    x = X[0].astype(np.float32)
    [values] = found.of(x[None])[:, :, 0]

    def value(known):
        filled = X.copy()
        filled[:, sorted(known)] = x[sorted(known)]
        return (filled @ w).mean() + 2.0

    np.testing.assert_allclose(values, shapley(value, 3), atol=1e-9)
    assert found.base_value == pytest.approx([value(set())], abs=1e-9)


@pytest.fixture(name="fitted", scope="module")
def _fitted():
    return {name: (estimator, X) for name, estimator, X in models()}


@pytest.mark.parametrize("name", SHAP)
def test_contributions_are_those_of_the_shap_package(fitted, name):
    estimator, X = fitted[name]
    if hasattr(estimator, "coef_"):
        found = LinearContributions(linear_arrays(estimator, X), np.arange(X.shape[1]))
    else:
        arrays, _ = tree_arrays(estimator)
        found = TreeContributions(arrays, np.arange(X.shape[1]))
    # XGBoost computes its own in float32.
    within = 2e-6 if name.startswith("xgboost") else 1e-9
    contributions = found.of(X[:EXPLAINED_ROWS])
    np.testing.assert_allclose(contributions, SHAP[name]["contributions"], rtol=0, atol=within)
    np.testing.assert_allclose(found.base_value, SHAP[name]["base"], rtol=0, atol=within)


def test_every_kind_is_held_against_shap(fitted):
    assert list(SHAP) == list(fitted)
    assert any(isinstance(estimator, LogisticRegression) for estimator, _ in fitted.values())

"""What an exact explanation of a prediction takes, by model: CPU time per row.

    python -m benchmarks.explanations

The models are fitted on 20,000 rows of 23 numbers. Preprocessing and HTTP are left out. A step is
one of the numbers that TreeSHAP multiplies, `contract.explained` says which: the limits of requests
count them, because the time is proportional to them.
"""

from __future__ import annotations

import time

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from contract.explainer import Contributions, read_contributions, write_contributions
from runner.packaging.explanation import linear_arrays
from runner.packaging.tree_arrays import tree_arrays

_ROWS, _COLUMNS = 20_000, 23
_MODELS: dict[str, BaseEstimator] = {
    "logistic regression": LogisticRegression(),
    "HistGradientBoosting, 100 trees of 31 leaves": HistGradientBoostingClassifier(),
    "random forest, 100 trees of depth 10": RandomForestClassifier(max_depth=10, random_state=0),
    "random forest, 30 trees of 1,000 leaves": RandomForestClassifier(
        30, max_leaf_nodes=1_000, random_state=0
    ),
}


def main() -> None:
    """Print the table."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(_ROWS, _COLUMNS)).astype(np.float32)
    y = (X[:, :6].sum(axis=1) + rng.normal(size=_ROWS) > 0).astype(int)
    print("| model | steps a row | ms, one row | ms a row, 64 rows | ns a step |")
    print("|---|--:|--:|--:|--:|")
    for name, estimator in _MODELS.items():
        one = _contributions(estimator.fit(X, y), X)
        alone, together = _milliseconds(one, X, 1), _milliseconds(one, X, 64)
        step = f"{together / one.steps * 1e6:.1f}" if one.steps else ""
        print(f"| {name} | {one.steps:,} | {alone:.3f} | {together:.3f} | {step} |")


def _contributions(estimator: BaseEstimator, X: np.ndarray) -> Contributions:
    trees = tree_arrays(estimator)
    kind, arrays = ("trees", trees[0]) if trees else ("linear", linear_arrays(estimator, X))
    return read_contributions(kind, write_contributions(arrays, np.arange(_COLUMNS)))


def _milliseconds(one: Contributions, X: np.ndarray, rows: int) -> float:
    """Return the CPU time per row, the best of ten."""
    times = []
    for begin in range(0, 10 * rows, rows):
        started = time.process_time()
        one.of(X[begin : begin + rows])
        times.append(time.process_time() - started)
    return min(times) / rows * 1e3


if __name__ == "__main__":
    main()

"""Text as boosters take it: a column of numbers of which they know that it is a category.

Each library has its own argument for that. Other estimators take the numbers as numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

from sklearn.base import BaseEstimator


def declare_categories(
    estimator: BaseEstimator, numbers: int, categories: int
) -> Mapping[str, list[int]]:
    """Have `estimator` take `categories` columns, after `numbers` of others, as categories.

    Returns
    -------
    Mapping
        Arguments for its `fit`.
    """
    name, positions = type(estimator).__name__, list(range(numbers, numbers + categories))
    if name.startswith("HistGradientBoosting"):
        estimator.set_params(categorical_features=positions)
    elif name.startswith("XGB"):
        kinds = ["q"] * numbers + ["c"] * categories
        estimator.set_params(enable_categorical=True, feature_types=kinds)
    elif name.startswith("LGBM"):
        return {"categorical_feature": positions}
    return {}

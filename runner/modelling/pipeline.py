"""The scikit-learn pipeline: preprocessing by type, then the recipe's estimator.

Preprocessing is inside the logged model, so whoever loads it needs raw features and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from runner.errors import RunnerError
from runner.recipes.arguments import build_estimator, fit_errors, library
from runner.recipes.estimators import wants_scaling

if TYPE_CHECKING:
    from runner.recipes.recipe import Recipe

_STRATEGIES: dict[str, dict[str, Any]] = {
    "median": {"strategy": "median"},
    "mean": {"strategy": "mean"},
    "zero": {"strategy": "constant", "fill_value": 0.0},
}


def build_pipeline(recipe: Recipe, X: pd.DataFrame) -> Pipeline:
    """Return an unfitted pipeline for the columns of `X`, the training rows' model inputs.

    Parameters
    ----------
    X
        Shape (n_train_rows, n_features), from `model_inputs`.

    Raises
    ------
    RunnerError
        If a feature has no value at all in the training rows, or the estimator does not take
        its `init_args`, or its library is not installed.
    """
    _refuse_empty_columns(recipe, X)
    text = [str(name) for name in X if X[name].dtype == object]
    numeric = [str(name) for name in X if X[name].dtype != object]
    transformers: list[tuple[str, Any, list[str]]] = []
    if numeric:
        transformers.append(("numeric", _numeric(recipe), numeric))
    if text:
        transformers.append(("categorical", _categorical(recipe, X[text]), text))
    return Pipeline(
        [
            ("preprocessing", ColumnTransformer(transformers)),
            ("estimator", build_estimator(recipe)),
        ]
    )


def fit_pipeline(recipe: Recipe, X: pd.DataFrame, y: npt.NDArray[np.generic]) -> Pipeline:
    """Return the recipe's pipeline, fitted to model inputs `X` and labels `y` of shape (n_rows,).

    Raises
    ------
    RunnerError
        As `build_pipeline`; or if the estimator cannot be fitted, because arguments contradict
        each other or do not suit the rows.
    """
    pipeline = build_pipeline(recipe, X)
    _weigh_integers(pipeline[-1], y)
    try:
        return pipeline.fit(X, y)
    except fit_errors(recipe) as err:
        reason = str(err).partition("\nStack trace")[0]  # XGBoost's own, of C++
        raise recipe.error(
            ("estimator",),
            f"{library(recipe)} cannot fit it: {reason}",
            hint="change estimator.init_args, or the label",
        ) from err


def _weigh_integers(estimator: Any, y: npt.NDArray[np.generic]) -> None:
    """Let `class_weight` name integer classes as the label has them: a recipe's keys are text."""
    weights = estimator.get_params().get("class_weight")
    if isinstance(weights, dict) and np.issubdtype(y.dtype, np.integer):
        by_text = {str(label): label for label in np.unique(y).tolist()}
        estimator.set_params(
            class_weight={by_text.get(name, name): weight for name, weight in weights.items()}
        )


def _numeric(recipe: Recipe) -> Any:
    chosen = recipe.preprocessing.numeric
    imputer = SimpleImputer(**_STRATEGIES[chosen.impute])
    scale = chosen.scale
    if scale == "standard" or (scale == "auto" and wants_scaling(recipe.estimator.class_path)):
        return make_pipeline(imputer, StandardScaler())
    return imputer


def _categorical(recipe: Recipe, X: pd.DataFrame) -> OneHotEncoder:
    # Written out here because ONNX has no equivalent of scikit-learn's `min_frequency`.
    # A rarer or unseen value becomes all zeros.
    minimum = recipe.preprocessing.categorical.min_frequency
    categories = []
    for name in X:
        counts = X[name].value_counts()
        frequent = sorted(counts.index[counts >= minimum])
        if not frequent:
            raise RunnerError(
                f"{recipe.path}: text feature {name} has no value that occurs {minimum} times in "
                f"the training rows (the most frequent: {counts.index[0]!r}, {counts.iloc[0]})",
                hint="lower preprocessing.categorical.min_frequency, or drop the feature",
            )
        categories.append(np.array(frequent, dtype=object))
    return OneHotEncoder(categories=categories, handle_unknown="ignore", sparse_output=False)


def _refuse_empty_columns(recipe: Recipe, X: pd.DataFrame) -> None:
    empty = [
        name
        for name in X
        if (X[name].isna().all() if X[name].dtype != object else not any(X[name]))
    ]
    if empty:
        feature = str(empty[0]).replace("__", ":", 1)
        others = f" (and {len(empty) - 1} more)" if len(empty) > 1 else ""
        raise RunnerError(
            f"{recipe.path}: feature {feature} is null in every training row{others}",
            hint="look at its SQL, timestamps and ttl in the feature mart, or drop the feature",
        )

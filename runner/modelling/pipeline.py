"""The scikit-learn pipeline: preprocessing by type, then the recipe's estimator.

Preprocessing is inside the logged model, so whoever loads it needs raw features and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder

from runner.errors import RunnerError
from runner.modelling.native_categories import declare_categories
from runner.recipes.arguments import build_estimator, fit_errors, library
from runner.recipes.estimators import wants_scaling

if TYPE_CHECKING:
    from runner.recipes.recipe import Recipe

_STRATEGIES: dict[str, dict[str, Any]] = {
    "median": {"strategy": "median"},
    "mean": {"strategy": "mean"},
    "zero": {"strategy": "constant", "fill_value": 0.0},
}
_TARGET_FOLDS = 5  # scikit-learn's default; spelled out, for its own are shuffled at random


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
    incomplete = [name for name in numeric if X[name].isna().any()]
    transformers: list[tuple[str, Any, list[str]]] = []
    if numeric:
        transformers.append(("numeric", _numeric(recipe), numeric))
    if incomplete and recipe.preprocessing.numeric.add_indicator:
        transformers.append(("missing", MissingIndicator(features="all"), incomplete))
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
    told = _told_categories(recipe, pipeline)
    try:
        return pipeline.fit(X, y, **told)
    except fit_errors(recipe) as err:
        reason = str(err).partition("\nStack trace")[0]  # XGBoost's own, of C++
        raise recipe.error(
            ("estimator",),
            f"{library(recipe)} cannot fit it: {reason}",
            hint="change estimator.init_args, preprocessing, or the label",
        ) from err


def _weigh_integers(estimator: Any, y: npt.NDArray[np.generic]) -> None:
    """Let `class_weight` name integer classes as the label has them: a recipe's keys are text."""
    weights = estimator.get_params().get("class_weight")
    if isinstance(weights, dict) and np.issubdtype(y.dtype, np.integer):
        by_text = {str(label): label for label in np.unique(y).tolist()}
        estimator.set_params(
            class_weight={by_text.get(name, name): weight for name, weight in weights.items()}
        )


def _told_categories(recipe: Recipe, pipeline: Pipeline) -> dict[str, Any]:
    """Return the pipeline's arguments for `fit` with which its estimator knows the categories."""
    if recipe.preprocessing.categorical.encode != "ordinal":
        return {}
    widths = {name: len(columns) for name, _, columns in pipeline[0].transformers}
    categories = widths.pop("categorical", 0)
    told = declare_categories(pipeline[-1], sum(widths.values()), categories) if categories else {}
    return {f"estimator__{name}": value for name, value in told.items()}


def _numeric(recipe: Recipe) -> Any:
    chosen = recipe.preprocessing.numeric
    steps = [] if chosen.impute == "none" else [SimpleImputer(**_STRATEGIES[chosen.impute])]
    scale = chosen.scale
    if scale == "standard" or (scale == "auto" and wants_scaling(recipe.estimator.class_path)):
        steps.append(StandardScaler())
    if not steps:
        return "passthrough"
    return steps[0] if len(steps) == 1 else make_pipeline(*steps)


def _categorical(recipe: Recipe, X: pd.DataFrame) -> Any:
    encode, categories = recipe.preprocessing.categorical.encode, _categories(recipe, X)
    if encode == "target":
        is_regression = recipe.task == "regression"
        folds = KFold if is_regression else StratifiedKFold
        return TargetEncoder(
            categories=categories,
            target_type="continuous" if is_regression else "auto",
            cv=folds(_TARGET_FOLDS, shuffle=True, random_state=0),
        )
    if encode == "ordinal":
        return OrdinalEncoder(
            categories=categories,
            handle_unknown="use_encoded_value",
            unknown_value=np.nan,
            dtype=np.float32,
        )
    return OneHotEncoder(categories=categories, handle_unknown="ignore", sparse_output=False)


def _categories(recipe: Recipe, X: pd.DataFrame) -> list[npt.NDArray[np.object_]]:
    """Return the frequent values of each text feature, in order.

    Counted here because ONNX has no equivalent of scikit-learn's `min_frequency`.
    """
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
    return categories


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

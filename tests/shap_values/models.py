"""Small fitted models of every kind that is explained, for shap and for what is held against it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from xgboost import XGBClassifier, XGBRegressor

EXPLAINED_ROWS = 4
_SMALL = {"random_state": 0, "n_estimators": 5, "max_depth": 4}


def models() -> Iterator[tuple[str, Any, Any]]:
    """Yield each model's name, the fitted estimator, and the rows that it was fitted on."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4)).round(2).astype(np.float32)
    signal = X[:, 0] * X[:, 1] + X[:, 2] + rng.normal(size=200) * 0.3
    missing = np.where(rng.random(X.shape) < 0.15, np.nan, X).astype(np.float32)
    two, three, positive = (signal > 0).astype(int), np.digitize(signal, [-0.5, 0.5]), signal**2
    quiet = _SMALL | {"verbose": -1, "min_child_samples": 5, "num_threads": 1}
    histogram = {"random_state": 0, "max_iter": 5, "max_depth": 4}
    for name, estimator, rows, y in (
        ("tree of classes", DecisionTreeClassifier(max_depth=4, random_state=0), X, three),
        ("tree of numbers", DecisionTreeRegressor(max_depth=4, random_state=0), X, signal),
        ("forest", RandomForestClassifier(**_SMALL, class_weight="balanced"), X, two),
        ("forest of three classes", RandomForestClassifier(**_SMALL), X, three),
        ("extra trees", ExtraTreesRegressor(**_SMALL), X, signal),
        ("gradient boosting", GradientBoostingClassifier(**_SMALL), X, two),
        ("gradient boosting of numbers", GradientBoostingRegressor(**_SMALL), X, signal),
        ("histograms", HistGradientBoostingClassifier(**histogram), missing, two),
        ("histograms of three", HistGradientBoostingClassifier(**histogram), missing, three),
        (
            "histograms of counts",
            HistGradientBoostingRegressor(**histogram, loss="poisson"),
            missing,
            positive,
        ),
        ("lightgbm", LGBMClassifier(**quiet), missing, two),
        ("lightgbm of three", LGBMClassifier(**quiet), X, three),
        ("lightgbm of numbers", LGBMRegressor(**quiet), missing, signal),
        ("xgboost", XGBClassifier(**_SMALL, n_jobs=1), missing, two),
        ("xgboost of three", XGBClassifier(**_SMALL, n_jobs=1), X, three),
        ("xgboost of numbers", XGBRegressor(**_SMALL, n_jobs=1), missing, signal),
        ("logistic regression", LogisticRegression(), X, two),
        ("logistic regression of three", LogisticRegression(), X, three),
        ("ridge", Ridge(), X, signal),
        ("poisson", PoissonRegressor(), X, positive),
    ):
        yield name, estimator.fit(rows, y), rows

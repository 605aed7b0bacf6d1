"""Every estimator that recipes may name is served from the skops format, and nothing else is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from contract.bundle_reader import read_bundle
from contract.scoring import Model, load_model
from contract.serving_errors import BundleError
from runner.recipes.estimators import ESTIMATORS
from tests.serving_bundles import inputs_of, manifest, write_bundle

NUMBERS = inputs_of(manifest())[0]["columns"]
TEXTS = inputs_of(manifest())[1]["columns"]
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "MLPClassifier": [{"solver": "sgd", "max_iter": 5}, {"solver": "adam", "max_iter": 5}],
    "MLPRegressor": [{"solver": "lbfgs", "max_iter": 5}],
    "KNeighborsClassifier": [{"algorithm": "ball_tree", "metric": "manhattan"}],
    "KNeighborsRegressor": [{"algorithm": "kd_tree", "metric": "chebyshev"}, {"p": 3}],
    "GradientBoostingRegressor": [{"loss": "huber"}],
    "HistGradientBoostingRegressor": [{"loss": "poisson"}, {"loss": "quantile", "quantile": 0.5}],
}


def _frame(rows: int = 120) -> tuple[pd.DataFrame, Any]:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(rows, len(NUMBERS))).astype(np.float32), columns=NUMBERS)
    X[TEXTS[0]] = rng.choice(["NL", "BE", ""], rows).astype(object)
    return X, (X[NUMBERS[0]] + rng.normal(size=rows) > 0).astype(int)


def _pipeline(estimator: Any) -> Pipeline:
    numeric = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    text = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=2, sparse_output=False)
    return make_pipeline(
        ColumnTransformer([("numeric", numeric, NUMBERS), ("text", text, TEXTS)]), estimator
    )


def _served(folder: Path, pipeline: Pipeline, task: str) -> Model:
    classes = [0, 1] if task == "classification" else None
    content = manifest(task=task, label={"name": "y", "description": "", "classes": classes})
    write_bundle(folder, skops.io.dumps(pipeline), content, file="model.skops")
    return load_model(read_bundle(folder))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("class_path", [n for n, e in sorted(ESTIMATORS.items()) if not e.extra])
def test_an_allowed_estimator_is_served_as_it_was_fitted(tmp_path: Path, class_path: str) -> None:
    allowed = ESTIMATORS[class_path]
    X, y = _frame()
    for number, options in enumerate([{}, *OPTIONS.get(allowed.name, [])]):
        module = __import__(f"sklearn.{allowed.module}", fromlist=[allowed.name])
        pipeline = _pipeline(getattr(module, allowed.name)(**options)).fit(X, y)
        model = _served(tmp_path / str(number), pipeline, allowed.task)
        rows = X[[feature.name for feature in model.bundle.features]].to_numpy(dtype=object)
        predictions = model.score_rows(rows.tolist())
        np.testing.assert_array_equal(predictions.labels, pipeline.predict(X))
        if allowed.task == "classification":
            expected = pipeline.predict_proba(X)
            np.testing.assert_allclose(predictions.probabilities, expected, rtol=1e-6, atol=1e-9)


def test_missing_values_and_no_rows_are_scored_too(tmp_path: Path) -> None:
    X, y = _frame()
    model = _served(tmp_path / "c", _pipeline(LogisticRegression()).fit(X, y), "classification")
    assert model.score_rows([[None] * 5]).labels.shape == (1,)
    assert model.score_rows([]).labels.shape == (0,)
    assert model.score({name: [] for name in X}).labels.shape == (0,)
    regression = _served(tmp_path / "r", _pipeline(LinearRegression()).fit(X, y), "regression")
    assert regression.score_rows([[None] * 5]).probabilities is None
    assert regression.quick is False


def test_a_type_that_is_not_trusted_is_refused(tmp_path: Path) -> None:
    X, y = _frame()
    pipeline = make_pipeline(FunctionTransformer(_first_column), LogisticRegression()).fit(X, y)
    with pytest.raises(BundleError, match=r"types that are not trusted: .*_first_column"):
        _served(tmp_path, pipeline, "classification")


def _first_column(X: pd.DataFrame) -> pd.DataFrame:
    return X[NUMBERS[:1]]

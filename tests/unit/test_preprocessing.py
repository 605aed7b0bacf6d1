"""Categories and missing values, by each way that a recipe may name: served as they are fitted."""

import numpy as np
import pandas as pd
import pytest
import skops.io

from contract.skops_model import TRUSTED_TYPES
from runner.errors import RunnerError
from runner.modelling.pipeline import build_pipeline, fit_pipeline
from runner.packaging.served_model import served_model
from runner.recipes.arguments import build_estimator
from tests.modelling import make_recipe

ROWS, TEST = 1_200, slice(900, None)
HGB = "sklearn.ensemble.HistGradientBoosting{}, init_args: {{max_iter: 20, random_state: 0}}"
FOREST = "sklearn.ensemble.RandomForest{}, init_args: {{n_estimators: 10, random_state: 0}}"
TREE = "sklearn.tree.DecisionTree{}, init_args: {{random_state: 0}}"
BOOSTERS = [
    HGB,
    "lightgbm.LGBM{}, init_args: {{n_estimators: 20}}",
    "xgboost.XGB{}, init_args: {{n_estimators: 20}}",
]
LINEAR = {
    "Classifier": "sklearn.linear_model.LogisticRegression",
    "Regressor": "sklearn.linear_model.Ridge",
}


def inputs(seed=0):
    """Return numbers with NaN and texts, some of them missing or rare."""
    random = np.random.default_rng(seed)
    letters = np.array([*"abcdefghijkl", "", "rare"], dtype=object)
    X = pd.DataFrame(
        {
            "spend": random.normal(size=ROWS).astype(np.float32),
            "letter": letters[random.choice(14, ROWS, p=[*[0.075] * 12, 0.09, 0.01])],
            "visits": random.poisson(3, ROWS).astype(np.float32),
            "weekday": np.array(["mon", "tue", "wed"], dtype=object)[random.integers(0, 3, ROWS)],
        }
    )
    X.loc[random.random(ROWS) < 0.2, "spend"] = np.nan
    return X


def labels(X, classes, names=None):
    """Return labels on which letter, spend and its absence have an effect; 0 classes: numbers."""
    random = np.random.default_rng(1)
    effects = pd.Series(random.normal(size=X.letter.nunique()), X.letter.unique())
    value = X.letter.map(effects) + X.spend.fillna(1.5) + random.normal(size=ROWS) * 0.3
    if not classes:
        return value.to_numpy(np.float64)
    y = pd.qcut(value, classes, labels=False).to_numpy().astype(np.int64)
    return y if names is None else np.array(names, dtype=object)[y]


def recipe_of(tmp_path, estimator, classes, preprocessing, more=""):
    kind = "Classifier" if classes else "Regressor"
    return make_recipe(
        tmp_path / "r.yaml",
        LINEAR[kind] if estimator == "linear" else estimator.format(kind),
        "accuracy" if classes else "r2",
        "classification" if classes else "regression",
        f"preprocessing: {preprocessing}\n{more}",
    )


def served(tmp_path, estimator, classes, preprocessing, names=None):
    X = inputs()
    y = labels(X, classes, names)
    recipe = recipe_of(tmp_path, estimator, classes, preprocessing)
    return served_model(fit_pipeline(recipe, X[:900], y[:900]), X[TEST])


NATIVE = "{numeric: {impute: none}, categorical: {encode: ordinal}}"
TARGET = "{numeric: {add_indicator: true}, categorical: {encode: target}}"
MISSING = "{numeric: {impute: none, add_indicator: true}, categorical: {encode: ordinal}}"
TREES = [FOREST, TREE, FOREST.replace("RandomForest", "ExtraTrees")]


@pytest.mark.parametrize("classes", [2, 3, 0])
@pytest.mark.parametrize(
    ("estimator", "preprocessing"),
    [
        *((booster, NATIVE) for booster in BOOSTERS),
        *((each, TARGET) for each in (FOREST, HGB, "linear")),
        *((tree, MISSING) for tree in TREES),
    ],
)
def test_categories_and_missing_values_are_served_as_onnx(
    tmp_path, estimator, preprocessing, classes
):
    """The proof has every value missing and every text unseen."""
    model = served(tmp_path, estimator, classes, preprocessing)
    assert model.format == "onnx", model.proof


@pytest.mark.parametrize("estimator", BOOSTERS)
def test_a_boosters_categories_are_not_compared_as_numbers(tmp_path, estimator):
    """Two splits by sets tell four letters apart that no threshold does."""
    letters = np.array([*"abcdefgh"], dtype=object)[np.arange(4000) % 8]
    X = pd.DataFrame({"letter": letters, "one": np.ones(4000, np.float32)})
    y = np.isin(letters, ["a", "c", "e", "g"]).astype(int)
    one_split = estimator.replace("20", "1")
    if estimator == HGB:
        one_split = one_split.replace("random_state", "max_leaf_nodes: 2, random_state")
    elif "xgboost" in estimator:
        one_split = one_split.replace("1}}", "1, max_depth: 1, max_cat_to_onehot: 1}}")
    else:
        one_split = one_split.replace("1}}", "1, num_leaves: 2}}")
    recipe = recipe_of(tmp_path, one_split, 2, NATIVE)
    shares = fit_pipeline(recipe, X, y).predict_proba(X)[:, 1]
    assert shares[y == 1].min() > shares[y == 0].max()


def test_target_encoding_is_cross_fitted_and_the_same_each_time(tmp_path):
    X = inputs()
    y = np.random.default_rng(5).integers(0, 2, ROWS)  # nothing to learn
    X["letter"] = np.array([f"v{i % 400}" for i in range(ROWS)], dtype=object)  # 3 rows each
    recipe = recipe_of(tmp_path, FOREST, 2, "{categorical: {encode: target, min_frequency: 1}}")
    encoder = build_pipeline(recipe, X)[0]
    first, second = (encoder.fit_transform(X, y) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    column = first[:, [name.endswith("letter") for name in encoder.get_feature_names_out()]]
    assert abs(np.corrcoef(column[:, 0], y)[0, 1]) < 0.2  # its own label would give 0.6


def test_an_indicator_is_for_what_is_missing_in_training_rows(tmp_path):
    recipe = recipe_of(tmp_path, "linear", 2, "{numeric: {add_indicator: true}}")
    X = inputs()
    names = build_pipeline(recipe, X)[0].fit(X).get_feature_names_out()
    assert [name for name in names if name.startswith("missing")] == [
        "missing__missingindicator_spend"
    ]
    complete = X.fillna({"spend": 0.0})
    assert not any(
        "indicator" in str(step) for step in build_pipeline(recipe, complete)[0].transformers
    )


@pytest.mark.parametrize("names", [["low", "middle", "high"], None])
@pytest.mark.parametrize("preprocessing", [TARGET, MISSING])
def test_what_is_not_proven_is_served_by_skops(tmp_path, monkeypatch, preprocessing, names):
    monkeypatch.setattr("runner.packaging.served_proof.TOLERANCE", -1.0)
    model = served(tmp_path, FOREST, 3, preprocessing, names)
    assert model.format == "skops"
    types = set(skops.io.get_untrusted_types(data=model.content))
    assert types <= TRUSTED_TYPES


def test_native_categories_of_scikit_learn_are_served_as_onnx_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr("runner.packaging.served_proof.TOLERANCE", -1.0)
    with pytest.raises(RunnerError, match="HistGradientBoostingClassifier cannot be served: ONNX"):
        served(tmp_path, HGB, 2, NATIVE)


@pytest.mark.parametrize(
    ("estimator", "preprocessing", "told"),
    [
        ("linear", "{numeric: {impute: none}}", "which preprocessing.numeric.impute: none leaves"),
        ("linear", "{categorical: {encode: ordinal}}", "preprocessing.categorical.encode: ordinal"),
    ],
)
def test_missing_values_are_refused_for_an_estimator_that_takes_none(
    tmp_path, estimator, preprocessing, told
):
    with pytest.raises(RunnerError, match="Ridge takes no missing values, which ") as err:
        recipe_of(tmp_path, estimator, 0, preprocessing)
    assert told in err.value.message
    assert "sklearn.ensemble.HistGradientBoostingRegressor, " in err.value.hint


def test_categories_are_named_by_ordinal_not_by_their_columns(tmp_path):
    hgb = HGB.replace("max_iter: 20", "categorical_features: [0]")
    with pytest.raises(RunnerError, match=r"expected one that can be served \(from_dtype\)"):
        build_estimator(recipe_of(tmp_path, hgb, 2, "{}"))

"""Pipeline, evaluation and serving bundle of a recipe, on small made-up rows."""

import functools
import hashlib
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import Pipeline

from contract.scoring import load_model
from runner.errors import RunnerError
from runner.modelling.bootstrap import Interval
from runner.modelling.evaluation import Judged, evaluate
from runner.modelling.pipeline import build_pipeline
from runner.modelling.plots import draw_plots
from runner.modelling.share_interval import wilson
from runner.packaging import served_proof
from runner.packaging.served_model import served_model
from tests.modelling import CLASSIFIER, FEATURES, MART, REGRESSOR, make_recipe, rows
from tests.trainings import written_bundle


@pytest.fixture
def recipe(tmp_path):
    return functools.partial(make_recipe, tmp_path / "recipe.yaml")


def test_model_inputs_are_float32_and_text_with_nan_and_empty_for_null():
    X, _ = rows(8)
    assert X.dtypes.astype(str).tolist() == ["float32", "float32", "float32", "object"]
    assert X["activity__orders_7d"].isna().tolist() == [True] + [False] * 6 + [True]
    assert X["activity__is_member"].tolist()[1:4] == [1.0, 0.0, 1.0]
    assert X["activity__country"].tolist()[:4] == ["", "de", "de", "fr"]


def test_rare_and_unseen_text_is_all_zeros(recipe):
    X, y = rows()
    X.loc[:3, "activity__country"] = "rare"
    pipeline = build_pipeline(recipe(), X).fit(X, y)
    encoder = pipeline[0].named_transformers_["categorical"]
    assert encoder.categories_[0].tolist() == ["", "de", "fr"]
    other = X.assign(activity__country="never seen")
    rare = X.assign(activity__country="rare")
    np.testing.assert_array_equal(pipeline.predict_proba(other), pipeline.predict_proba(rare))


@pytest.mark.parametrize(
    ("estimator", "scaled"),
    [
        ("sklearn.linear_model.LogisticRegression", True),
        ("sklearn.ensemble.RandomForestClassifier", False),
    ],
)
def test_numbers_are_scaled_for_linear_models_and_not_for_trees(recipe, estimator, scaled):
    X, y = rows()
    pipeline = build_pipeline(recipe(estimator), X).fit(X, y)
    numbers = pipeline[0].transform(X)[:, :2]
    assert np.allclose(numbers.std(axis=0), 1, atol=1e-3) is scaled


def test_scaling_and_imputing_follow_the_recipe(recipe):
    X, y = rows()
    more = "preprocessing: {numeric: {impute: zero, scale: standard}}\n"
    pipeline = build_pipeline(recipe(more=more), X).fit(X, y)
    steps = pipeline[0].named_transformers_["numeric"]
    assert steps[0].statistics_.tolist() == [0, 0, 0]
    assert len(steps) == 2


@pytest.mark.parametrize("column", ["activity__value", "activity__country"])
def test_a_feature_without_any_value_is_refused(recipe, column):
    X, _ = rows()
    X[column] = "" if X[column].dtype == object else np.float32("nan")
    with pytest.raises(RunnerError, match="is null in every training row") as refused:
        build_pipeline(recipe(), X)
    assert column.replace("__", ":") in refused.value.message


def test_text_without_any_frequent_value_is_refused(recipe):
    X, _ = rows()
    X["activity__country"] = [f"c{i}" for i in range(len(X))]
    with pytest.raises(RunnerError, match="no value that occurs 20 times"):
        build_pipeline(recipe(), X)


def test_features_of_one_kind_only_are_enough(recipe):
    X, y = rows()
    for columns in (["activity__value"], ["activity__country"]):
        pipeline = build_pipeline(recipe(), X[columns]).fit(X[columns], y)
        assert served_model(pipeline, X[columns]).format == "onnx"


def test_the_gate_says_which_threshold_is_missed(recipe):
    X, y = rows()
    chosen = recipe(scoring="roc_auc, accuracy", more="gate: {roc_auc: 0.99, accuracy: 0.1}\n")
    pipeline = build_pipeline(chosen, X).fit(X, y)
    evaluation = evaluate(chosen, Judged(pipeline, X, y), Judged(pipeline, *rows(seed=1)))
    [refusal] = evaluation.refusals
    assert refusal.startswith("roc_auc is 0.")
    assert refusal.endswith("below the threshold 0.99")
    assert evaluation.train["roc_auc"] > evaluation.test["roc_auc"]


def test_without_a_gate_every_model_passes(recipe):
    X, y = rows()
    pipeline = build_pipeline(recipe(), X).fit(X, y)
    assert not evaluate(recipe(), *[Judged(pipeline, X, y)] * 2).refusals


def test_rows_that_cannot_be_scored_are_refused(recipe):
    X, y = rows()
    pipeline = build_pipeline(recipe(), X).fit(X, y)
    with pytest.raises(RunnerError, match=r"recipe\.yaml:\d+:\d+: scoring"):
        evaluate(recipe(), Judged(pipeline, X, y), Judged(pipeline, X, np.zeros_like(y)))


ESTIMATORS = [
    (CLASSIFIER, "classification", "roc_auc"),
    ("sklearn.linear_model.LogisticRegression", "classification", "roc_auc"),
    ("sklearn.ensemble.HistGradientBoostingClassifier", "classification", "roc_auc"),
    (REGRESSOR, "regression", "r2"),
    ("sklearn.ensemble.HistGradientBoostingRegressor", "regression", "r2"),
    ("sklearn.linear_model.Ridge", "regression", "r2"),
]


@pytest.mark.filterwarnings("error:Field onnx")  # protobuf's, of skl2onnx's booleans
@pytest.mark.parametrize(("estimator", "task", "scorer"), ESTIMATORS)
def test_the_bundle_predicts_what_the_pipeline_predicts(recipe, tmp_path, estimator, task, scorer):
    X, y = rows()
    chosen = recipe(estimator, scorer, task)
    pipeline = build_pipeline(chosen, X).fit(X, y)
    served = served_model(pipeline, X)
    assert served.format == "onnx", served.proof
    predictions = load_model(written_bundle(tmp_path, chosen, served)).score(dict(X))
    if task == "classification":
        np.testing.assert_allclose(
            predictions.probabilities, pipeline.predict_proba(X), atol=served_proof.TOLERANCE
        )
    else:
        np.testing.assert_allclose(predictions.labels, pipeline.predict(X), rtol=1e-4, atol=1e-5)


def test_a_model_that_onnx_does_not_reproduce_is_served_by_skops(recipe, tmp_path, monkeypatch):
    X, y = rows()
    pipeline = build_pipeline(recipe(), X).fit(X, y)
    monkeypatch.setattr(served_proof, "TOLERANCE", -1.0)
    served = served_model(pipeline, X)
    assert served.format == "skops"
    assert served.proof.startswith("ONNX differs by ")
    predictions = load_model(written_bundle(tmp_path, recipe(), served)).score(dict(X))
    expected = pipeline.predict_proba(X).astype(np.float32)
    np.testing.assert_array_equal(predictions.probabilities, expected)
    empty = load_model(written_bundle(tmp_path, recipe(), served)).score(dict(X.head(0)))
    assert empty.probabilities.dtype == predictions.probabilities.dtype
    assert empty.labels.dtype == predictions.labels.dtype


class Foreign(ClassifierMixin, BaseEstimator):
    """An estimator from outside scikit-learn, which no recipe can name."""

    def fit(self, _, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.full((len(X), 2), 0.5)


def test_a_model_from_outside_scikit_learn_is_never_bundled():
    X, y = rows()
    pipeline = Pipeline([("estimator", Foreign())]).fit(X, y)
    with pytest.raises(RunnerError, match="not scikit-learn's own"):
        served_model(pipeline, X)


def test_the_bundle_says_what_serving_needs_and_its_digest_is_returned(recipe, tmp_path):
    X, y = rows()
    pipeline = build_pipeline(recipe(), X).fit(X, y)
    read = written_bundle(tmp_path, recipe(), served_model(pipeline, X))
    assert [(key.name, key.dtype, key.example) for key in read.entity_keys] == [
        ("user_id", "int64", 7)
    ]
    assert [feature.name for feature in read.features] == list(X)
    content = json.loads((tmp_path / "serving.json").read_text())
    assert content["recipe"] == recipe().dump()
    assert content["features"][0]["ttl_seconds"] is None
    assert read.digest == hashlib.sha256((tmp_path / "serving.json").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("more", "overridable"),
    [
        ("", []),
        ('feature_overrides: ["activity:value"]\n', ["activity__value"]),
        ('feature_overrides: ["activity:*"]\n', [feature.column for feature in FEATURES]),
    ],
)
def test_the_bundle_says_which_features_a_request_may_override(recipe, tmp_path, more, overridable):
    X, y = rows()
    made = recipe(more=more)
    read = written_bundle(tmp_path, made, served_model(build_pipeline(made, X).fit(X, y), X))
    assert [feature.name for feature in read.features if feature.overridable] == overridable


@pytest.mark.parametrize(
    ("estimator", "task", "scorer", "names"),
    [
        (
            CLASSIFIER,
            "classification",
            "roc_auc",
            {"roc", "precision_recall", "calibration", "scores", "confusion_matrix", "importance"},
        ),
        (REGRESSOR, "regression", "r2", {"predictions", "residuals", "importance"}),
    ],
)
def test_the_plots_are_pictures(recipe, tmp_path, estimator, task, scorer, names):
    X, y = rows()
    pipeline = build_pipeline(recipe(estimator, scorer, task), X).fit(X, y)
    folder = tmp_path / "plots"
    folder.mkdir()
    draw_plots(folder, pipeline, X, y, scorer)
    assert {path.stem for path in folder.iterdir()} == names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.iterdir())


@pytest.mark.parametrize("name", ["$", "$a^$", "値", "_", "a\nb" * 20])
def test_the_plots_show_classes_of_any_name(recipe, tmp_path, name, recwarn):
    X, y = rows()
    y = np.array(["other", name], dtype=object)[y]
    pipeline = build_pipeline(recipe(), X).fit(X, y)
    draw_plots(tmp_path, pipeline, X, y, "accuracy", {"roc_auc": Interval(0.8, 0.7, 0.9)})
    assert len(list(tmp_path.glob("*.png"))) == 6
    assert list(recwarn) == []


def test_the_interval_of_a_share_stays_between_0_and_1_and_narrows():
    low, high = wilson(np.array([0.0, 0.5, 0.5, 1.0]), np.array([10, 10, 1000, 10]))
    expected = [(0, 0.2775), (0.2366, 0.7634), (0.4691, 0.5309), (0.7225, 1)]
    np.testing.assert_allclose(np.array([low, high]).T, expected, atol=1e-4)


def test_more_than_two_classes_have_a_confusion_matrix_and_no_roc(recipe, tmp_path):
    X, _ = rows()
    y = pd.cut(X["activity__value"], 3, labels=["low", "middle", "high"]).to_numpy(object)
    chosen = recipe(scoring="accuracy")
    pipeline = build_pipeline(chosen, X).fit(X, y)
    draw_plots(tmp_path, pipeline, X, y, "accuracy")
    assert (tmp_path / "confusion_matrix.png").exists()
    assert not (tmp_path / "roc.png").exists()
    assert served_model(pipeline, X).format == "onnx"


def test_the_bundle_says_what_is_personal_data_and_shows_no_example_of_it(recipe, tmp_path):
    personal = {**MART.columns, "country": replace(MART.columns["country"], pii=True)}
    personal["user_id"] = replace(MART.columns["user_id"], pii=True)
    features = [
        replace(feature, mart=replace(feature.mart, columns=personal)) for feature in FEATURES
    ]
    X, y = rows()
    served = served_model(build_pipeline(recipe(), X).fit(X, y), X)
    read = written_bundle(tmp_path, recipe(), served, features=features)
    assert [feature.name for feature in read.features if feature.pii] == ["activity__country"]
    assert [(key.name, key.pii, key.example) for key in read.entity_keys] == [
        ("user_id", True, None)
    ]

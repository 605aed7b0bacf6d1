"""Calibration, decision threshold and class weights: fitted on their own rows, served as fitted."""

import dataclasses
import functools
import json
import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import f1_score

from contract.scoring import load_model
from runner.errors import RunnerError
from runner.modelling.fitted_model import calibration_of, fit_model, threshold_of, uncalibrated
from runner.modelling.pipeline import fit_pipeline
from runner.modelling.plots import draw_plots
from runner.modelling.training_data import Rows, TrainingData, split_labels
from runner.packaging import served_proof
from runner.packaging.served_model import served_model
from tests.modelling import CLASSIFIER, SPINE, make_recipe, rows
from tests.trainings import written_bundle

LINEAR = "sklearn.linear_model.LogisticRegression"
BOOSTED = "sklearn.ensemble.HistGradientBoostingClassifier, init_args: {max_iter: 10}"
LIGHTGBM = "lightgbm.LGBMClassifier, init_args: {n_estimators: 10}"
XGBOOST = "xgboost.XGBClassifier, init_args: {n_estimators: 10}"
FOREST = (
    "sklearn.ensemble.RandomForestClassifier, "
    "init_args: {n_estimators: 50, min_samples_leaf: 1, random_state: 0}"
)
SMALL_LEAVES = (
    "sklearn.ensemble.RandomForestClassifier, "
    "init_args: {n_estimators: 20, min_samples_leaf: 5, random_state: 0}"
)
BAYES = "sklearn.naive_bayes.GaussianNB"
SIGMOID = "calibration: {method: sigmoid, period: 1d}\n"
ISOTONIC = "calibration: {method: isotonic, period: 1d}\n"
FOR_F1 = "decision_threshold: {maximize: f1, period: 1d}\n"


@pytest.fixture
def recipe(tmp_path):
    return functools.partial(make_recipe, tmp_path / "recipe.yaml")


@pytest.fixture(scope="module")
def data():
    """Rows of four periods."""
    train, test, calibration, validation = (Rows(*rows(400, seed)) for seed in (0, 7, 5, 9))
    return TrainingData(None, train, test, None, calibration, validation)


def without(data, *parts):
    return TrainingData(
        None,
        data.train,
        data.test,
        None,
        None if "calibration" in parts else data.calibration,
        None if "validation" in parts else data.validation,
    )


def test_a_recipe_without_the_keys_is_the_pipeline_alone(recipe, data):
    plain = without(data, "calibration", "validation")
    model = fit_model(recipe(), plain)
    assert type(model[-1]).__name__ == "RandomForestClassifier"
    assert (threshold_of(model), calibration_of(model)) == (None, None)


@pytest.mark.parametrize("estimator", [CLASSIFIER, LINEAR])
@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration_is_scikit_learns_on_the_calibration_rows(recipe, data, estimator, method):
    chosen = recipe(
        estimator, scoring="neg_log_loss", more=f"calibration: {{method: {method}, period: 1d}}\n"
    )
    model = fit_model(chosen, without(data, "validation"))
    expected = CalibratedClassifierCV(
        FrozenEstimator(fit_pipeline(chosen, *data.train)), method=method
    ).fit(*data.calibration)
    off = np.abs(model.predict_proba(data.test.X) - expected.predict_proba(data.test.X))
    # An isotonic line is fitted to rounded scores: a row at a step may be on its other side.
    assert off.mean() < (1e-15 if method == "sigmoid" else 0.01)
    np.testing.assert_array_equal(
        uncalibrated(model).predict_proba(data.test.X),
        fit_pipeline(chosen, *data.train).predict_proba(data.test.X),
    )


def test_no_threshold_is_better_on_the_validation_rows_and_other_rows_take_no_part(recipe, data):
    model = fit_model(recipe(LINEAR, more=FOR_F1), without(data, "calibration"))
    threshold = threshold_of(model)
    share, y = model.predict_proba(data.validation.X)[:, 1], data.validation.y
    best = f1_score(y, share >= threshold)
    assert best == f1_score(y, model.predict(data.validation.X))
    assert best >= max(f1_score(y, share >= other) for other in np.linspace(0.05, 0.95, 19))
    assert best > f1_score(y, share >= 0.5)
    other = TrainingData(None, data.train, Rows(*rows(400, 33)), None, None, data.validation)
    assert threshold_of(fit_model(recipe(LINEAR, more=FOR_F1), other)) == threshold


def test_a_fixed_threshold_decides_the_class_and_leaves_the_probabilities(recipe, data):
    plain = without(data, "calibration", "validation")
    model = fit_model(recipe(LINEAR, more="decision_threshold: {value: 0.8}\n"), plain)
    share = model.predict_proba(data.test.X)
    np.testing.assert_array_equal(model.predict(data.test.X), (share[:, 1] >= 0.8).astype(int))
    np.testing.assert_array_equal(
        share, fit_model(recipe(LINEAR), plain).predict_proba(data.test.X)
    )


def test_a_probability_that_is_the_threshold_gives_the_same_class_when_served(recipe, data):
    plain = without(data, "calibration", "validation")
    model = fit_model(recipe(FOREST, more="decision_threshold: {value: 0.2}\n"), plain)
    share = model.predict_proba(data.test.X)[:, 1]
    at = np.isclose(share, 0.2, rtol=0, atol=1e-9)
    assert at.sum() > 2, "the forest says just 0.2"
    assert model.predict(data.test.X)[at].all()
    served = served_model(model, data.test.X)
    answers = served.answer(data.test.X)
    assert served.format == "onnx"
    assert answers.labels.tolist() == model.predict(data.test.X).tolist()


@pytest.mark.parametrize(
    ("estimator", "more"),
    [
        (CLASSIFIER, SIGMOID + FOR_F1),
        (CLASSIFIER, ISOTONIC + FOR_F1),
        (LINEAR, SIGMOID + FOR_F1),
        (LINEAR, ISOTONIC),
        (BOOSTED, SIGMOID),
        (BAYES, SIGMOID + "decision_threshold: {value: 0.3}\n"),
        (LIGHTGBM, SIGMOID + FOR_F1),
        (XGBOOST, SIGMOID),
        (LINEAR, FOR_F1),
    ],
)
def test_the_bundle_answers_what_the_model_answers(recipe, data, tmp_path, estimator, more):
    chosen = recipe(estimator, more=more)
    model = fit_model(chosen, data)
    served = served_model(model, data.test.X)
    assert served.format == "onnx", served.proof
    same(tmp_path, chosen, model, served, data.test.X)


@pytest.mark.parametrize("estimator", [LINEAR, SMALL_LEAVES, BOOSTED, BAYES, LIGHTGBM, XGBOOST])
def test_an_isotonic_line_is_never_so_steep_that_onnx_misses_it(recipe, estimator):
    parts = [Rows(*rows(n, seed)) for n, seed in ((400, 0), (4_000, 7), (4_000, 6))]
    many = TrainingData(None, parts[0], parts[1], None, parts[2])
    model = fit_model(recipe(estimator, more=ISOTONIC), many)
    served = served_model(model, many.test.X)
    assert served.format == "onnx", served.proof


def test_what_onnx_does_not_reproduce_is_served_by_skops_with_the_same_classes(
    recipe, data, tmp_path, monkeypatch
):
    monkeypatch.setattr(served_proof, "TOLERANCE", -1.0)
    chosen = recipe(LINEAR, more=ISOTONIC + FOR_F1)
    model = fit_model(chosen, data)
    served = served_model(model, data.test.X)
    assert served.format == "skops"
    same(tmp_path, chosen, model, served, data.test.X)


def same(folder, recipe, model, served, X):
    """Hold the bundle's answers against the pipeline's, and the trainer's against the bundle's."""
    read = written_bundle(folder, recipe, served)
    answers = load_model(read).score(dict(X))
    np.testing.assert_allclose(answers.probabilities, model.predict_proba(X), atol=1e-5)
    assert answers.labels.tolist() == model.predict(X).tolist()
    assert 0 < answers.labels.mean() < 1
    trained = served.answer(X)
    np.testing.assert_array_equal(answers.labels, trained.labels)
    np.testing.assert_array_equal(answers.probabilities, trained.probabilities)
    content = json.loads((folder / "serving.json").read_text())
    assert content["label"]["decision_threshold"] == threshold_of(model)
    assert content["format_version"] == (1 if threshold_of(model) is None else 2)


def three_classes(part):
    bands = pd.cut(part.X["activity__value"], [-9, -0.5, 0.5, 9], labels=["low", "middle", "top"])
    return Rows(part.X, bands.to_numpy(object))


def test_three_classes_are_calibrated_and_served_by_scikit_learn(recipe, data, tmp_path):
    parts = [three_classes(part) for part in (data.train, data.test, data.calibration)]
    three = TrainingData(None, parts[0], parts[1], None, parts[2])
    model = fit_model(recipe(scoring="accuracy", more=SIGMOID), three)
    assert calibration_of(model) is not None
    served = served_model(model, three.test.X)
    assert served.format == "skops"
    assert "calibration of 3 classes is not written as ONNX" in served.proof


def test_text_classes_are_calibrated_in_onnx(recipe, data, tmp_path):
    parts = [
        Rows(part.X, np.where(part.y == 1, "yes", "no").astype(object))
        for part in (data.train, data.test, data.calibration)
    ]
    texts = TrainingData(None, parts[0], parts[1], None, parts[2])
    model = fit_model(recipe(scoring="accuracy", more=SIGMOID), texts)
    served = served_model(model, texts.test.X)
    assert served.format == "onnx", served.proof
    answers = served.answer(texts.test.X)
    assert answers.labels.tolist() == model.predict(texts.test.X).tolist()


UTC_TIME = pa.timestamp("us", "UTC")
Y_SPINE = dataclasses.replace(SPINE, labels={"y": timedelta(0)})


def spine_rows(train=(0, 1) * 50, middle=(0, 1) * 50):
    """Return rows with these labels that train, and that calibrate or validate, before 100 more."""
    day, test = datetime(2026, 1, 30, tzinfo=UTC), [0, 1] * 50
    times = [day.replace(day=1)] * len(train) + [day.replace(day=26)] * len(middle)
    times = pa.array(times + [day] * len(test), UTC_TIME)
    return pa.table({"event_timestamp": times, "y": pa.array([*train, *middle, *test])})


CLASSES = [
    (SIGMOID, "middle", [0] * 4 + [1] * 96, "label y is 0 in 4 of 100 calibration rows"),
    (SIGMOID, "middle", [1] * 100, "is 1 in all 100 calibration rows"),
    (FOR_F1, "middle", [0] * 100, "is 0 in all 100 validation rows"),
    (FOR_F1, "train", [0, 1, 2] * 100, "label y has 3 classes; a threshold needs two"),
    ("decision_threshold: {value: 0.3}\n", "train", [0, 1, 2] * 100, "label y has 3 classes"),
    (SIGMOID, "middle", [0, 1, 2] * 30, "label y is 2 in calibration rows, but in no train"),
]


@pytest.mark.parametrize(("more", "part", "y", "told"), CLASSES)
def test_classes_that_a_part_lacks_are_told_before_anything_is_fitted(recipe, more, part, y, told):
    with pytest.raises(RunnerError, match=told) as refused:
        split_labels(recipe(more=more), Y_SPINE, spine_rows(**{part: y}))
    assert re.match(r".*/recipe\.yaml:\d+:\d+: (calibration|decision_thre)", refused.value.message)


def test_three_calibrated_classes_of_a_booster_are_told_before_anything_is_fitted(recipe):
    three = [0, 1, 2] * 100
    with pytest.raises(
        RunnerError, match="of LightGBM, XGBoost and native categories is served for two"
    ):
        split_labels(recipe(XGBOOST, more=SIGMOID), Y_SPINE, spine_rows(three, three))


@pytest.mark.parametrize(
    ("days", "y", "told"),
    [
        (
            [0, 0, 1, 2, 3],
            None,
            "leaves 0 training, 5 test rows: the spine's 5 rows are from",
        ),
        ([0, 7, 8, 9], None, "leaves 1 training, 3 test rows: the spine's 4 rows are from"),
        ([0, 1, 2, 9], None, "leaves 3 training, 1 test rows: the spine's 4 rows are from"),
        ([0, 1, 8, 9], [0, 1, 1, 1], "label y of spine_y is 1 in all 2 test rows"),
    ],
)
def test_a_split_that_cannot_train_or_test_names_its_place_in_the_recipe(recipe, days, y, told):
    times = pa.array([datetime(2026, 1, 1 + day, tzinfo=UTC) for day in days], UTC_TIME)
    table = pa.table({"event_timestamp": times, "y": y or [day % 2 for day in days]})
    with pytest.raises(RunnerError) as refused:
        split_labels(recipe(), Y_SPINE, table)
    place, _, message = refused.value.message.partition(": ")
    assert place.endswith("recipe.yaml:8:9")
    assert message.startswith(f"split.test: {told}")


def test_a_model_that_says_one_probability_has_no_threshold_to_choose(recipe, data):
    dummy = recipe("sklearn.dummy.DummyClassifier", more=FOR_F1)
    with pytest.raises(RunnerError, match=r"400 validation rows have one probability, 0\."):
        fit_model(dummy, without(data, "calibration"))


def test_a_scorer_that_does_not_fit_the_label_chooses_no_threshold(recipe, data):
    parts = [
        Rows(part.X, np.where(part.y == 1, "yes", "no").astype(object))
        for part in (data.train, data.test, data.validation)
    ]
    texts = TrainingData(None, parts[0], parts[1], None, None, parts[2])
    with pytest.raises(RunnerError, match=r"decision_threshold\.maximize: cannot score") as told:
        fit_model(recipe(scoring="accuracy", more=FOR_F1), texts)
    assert told.value.hint == "choose a scorer that fits the label"


@pytest.mark.parametrize("weight", ["balanced", '{"0": 1, "1": 20}'])
def test_class_weights_move_the_probabilities(recipe, data, weight):
    rare = Rows(data.train.X, (data.train.X["activity__value"] > 1).to_numpy(np.int64))
    weighted = fit_pipeline(recipe(f"{LINEAR}, init_args: {{class_weight: {weight}}}"), *rare)
    plain = fit_pipeline(recipe(LINEAR), *rare)
    means = [model.predict_proba(rare.X)[:, 1].mean() for model in (plain, weighted)]
    assert means[1] > means[0] + 0.03


def test_a_weight_for_a_class_that_is_not_there_is_told(recipe, data):
    unknown = recipe(f'{LINEAR}, init_args: {{class_weight: {{"0": 1, "7": 2}}}}')
    with pytest.raises(RunnerError, match=r"scikit-learn cannot fit it: .*class_weight"):
        fit_pipeline(unknown, *data.train)


def test_the_plots_of_a_calibrated_model_with_a_threshold_are_all_there(recipe, data, tmp_path):
    model = fit_model(recipe(more=SIGMOID + FOR_F1), data)
    assert is_classifier(model)
    folder = tmp_path / "plots"
    folder.mkdir()
    draw_plots(folder, model, *data.test, "f1")
    assert {path.stem for path in folder.iterdir()} == {
        *("roc", "precision_recall", "calibration", "scores", "confusion_matrix", "importance")
    }

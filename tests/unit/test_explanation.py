"""A bundle explains its answers: contributions of the recipe's inputs add up to the score."""

import json
from types import SimpleNamespace

import jsonschema
import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from contract.bundle_reader import read_bundle
from contract.explainer import load_explainer
from contract.scoring import load_model
from contract.serving_errors import BundleError
from runner.modelling.fitted_model import fit_model, uncalibrated
from runner.modelling.pipeline import fit_pipeline
from runner.modelling.training_data import Rows, TrainingData
from runner.packaging import explanation as explanations
from runner.packaging.explanation import served_explanation
from runner.packaging.served_model import class_list, served_model
from runner.recipes.estimators import ESTIMATORS
from serving.http.openapi_explanation import explanation_schema
from tests.modelling import make_recipe, rows
from tests.trainings import written_bundle

NUMBERS = ["activity__orders_7d", "activity__value", "activity__is_member"]
TEXT = "activity__country"
ONEHOT = "{numeric: {add_indicator: true}, categorical: {encode: onehot}}"
NATIVE = "{numeric: {impute: none}, categorical: {encode: ordinal}}"
TARGET = "{categorical: {encode: target}}"
QUICK = {
    "ensemble": "n_estimators: 7, max_depth: 5, random_state: 0",
    "lightgbm": "n_estimators: 7, max_depth: 5, random_state: 0",
    "xgboost": "n_estimators: 7, max_depth: 5, random_state: 0",
    "tree": "max_depth: 5, random_state: 0",
    "linear_model": "",
}
EXPLAINED = [path for path, one in ESTIMATORS.items() if one.module in QUICK]
UNEXPLAINED = [path for path in ESTIMATORS if path not in EXPLAINED]
FOREST = "sklearn.ensemble.RandomForestClassifier"
HISTOGRAMS = "sklearn.ensemble.HistGradientBoostingClassifier"
LINEAR = "sklearn.linear_model.LogisticRegression"
pytestmark = pytest.mark.filterwarnings("ignore:.*feature names", "ignore:.*did not converge")


def recipe_of(folder, class_path, preprocessing=ONEHOT, more=""):
    allowed = ESTIMATORS[class_path]
    arguments = QUICK.get(allowed.module, "")
    if "HistGradientBoosting" in class_path:
        arguments = arguments.replace("n_estimators", "max_iter")
    is_regression = allowed.task == "regression"
    return make_recipe(
        folder / "recipe.yaml",
        f"{class_path}, init_args: {{{arguments}}}",
        "r2" if is_regression else "accuracy",
        allowed.task,
        f"preprocessing: {preprocessing}\n{more}",
    )


def labels(X, recipe, classes):
    value = X["activity__value"] + X[TEXT].eq("de") + X["activity__orders_7d"].fillna(4) / 4
    if recipe.task == "regression":
        return np.abs(value).to_numpy(np.float64)
    return pd.qcut(value, classes, labels=False).to_numpy(np.int64)


class Explained:
    """A bundle of a fitted recipe, its explainer, and rows to explain."""

    def __init__(self, folder, recipe, classes=2, pipeline=None):
        X, _ = rows()
        y = labels(X, recipe, classes)
        self.X = X[300:].reset_index(drop=True)
        self.X.loc[99, NUMBERS], self.X.loc[99, TEXT] = np.nan, "seen nowhere"
        self.pipeline = pipeline or fit_pipeline(recipe, X[:300], y[:300])
        served = served_model(self.pipeline, X[300:])
        made = served_explanation(self.pipeline, served, X[:300], X[300:])
        self.bundle = written_bundle(
            folder, recipe, served, class_list(self.pipeline) or (), explanation=made
        )
        self.model = load_model(self.bundle)
        self.explainer = load_explainer(self.bundle, self.model)

    def scores(self):
        """Return what base values and contributions add up to, shape (n_rows, n_outputs)."""
        found = self.explainer.columns({name: self.X[name] for name in self.X})
        assert self.explainer.inputs == (*NUMBERS, TEXT)
        assert found.contributions.shape[1] == len(self.explainer.inputs)
        return found.base_values + found.contributions.sum(axis=1)

    def raw(self):
        """Return the estimator's own scores before calibration, shape (n_rows, n_outputs)."""
        model, space = uncalibrated(self.pipeline), self.bundle.explanation.space
        if space in {"label", "log_label"}:
            predicted = model.predict(self.X)[:, None]
            return np.log(predicted) if space == "log_label" else predicted
        shares = model.predict_proba(self.X)
        shares = shares[:, 1:] if shares.shape[1] == 2 else shares
        return np.log(shares / (1 - shares)) if space == "log_odds" else shares


@pytest.mark.parametrize("class_path", EXPLAINED)
def test_contributions_add_up_to_the_score_of_every_linear_model_and_tree(tmp_path, class_path):
    one = Explained(tmp_path, recipe_of(tmp_path, class_path))
    np.testing.assert_allclose(one.scores(), one.raw(), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("class_path", "preprocessing"),
    [
        *((path, TARGET) for path in (FOREST, HISTOGRAMS, LINEAR)),
        *((path, NATIVE) for path in (HISTOGRAMS, "lightgbm.LGBMClassifier")),
        *((path, NATIVE) for path in ("xgboost.XGBClassifier", FOREST)),
    ],
)
@pytest.mark.parametrize("classes", [2, 3])
def test_every_encoding_and_several_classes_are_explained(
    tmp_path, class_path, preprocessing, classes
):
    one = Explained(tmp_path, recipe_of(tmp_path, class_path, preprocessing), classes)
    scores, raw = one.scores(), one.raw()
    if one.bundle.explanation.space == "class_score":
        scores = softmax(scores, axis=1)
    np.testing.assert_allclose(scores, raw, rtol=2e-5, atol=2e-5)
    assert scores.shape[1] == (1 if classes == 2 else 3)


@pytest.mark.parametrize("class_path", UNEXPLAINED)
def test_what_is_neither_linear_nor_a_tree_says_so(tmp_path, class_path):
    recipe, (X, _) = recipe_of(tmp_path, class_path), rows(200)
    pipeline = fit_pipeline(recipe, X, labels(X, recipe, 2))
    made = served_explanation(pipeline, SimpleNamespace(format="onnx"), X, X)
    name = class_path.rpartition(".")[2]
    assert made.content == {
        "unavailable": f"{name} has no exact contributions; only linear models and trees do"
    }


def test_a_text_contributes_as_one_input_and_a_missing_number_with_its_indicator(tmp_path):
    one = Explained(tmp_path, recipe_of(tmp_path, LINEAR))
    asked = one.X.iloc[[0, 0, 0]].copy()
    asked[TEXT] = ["de", "fr", "de"]
    asked["activity__orders_7d"] = np.array([2, 2, np.nan], np.float32)
    values = one.explainer.columns({name: asked[name] for name in asked}).contributions[:, :, 0]
    place = {name: at for at, name in enumerate(one.explainer.inputs)}
    moved = np.flatnonzero(~np.isclose(values[0], values[1]))
    assert moved.tolist() == [place[TEXT]]
    assert np.flatnonzero(~np.isclose(values[0], values[2])).tolist() == [0]


def test_rows_are_explained_alike_one_by_one_and_in_columns(tmp_path):
    one = Explained(tmp_path, recipe_of(tmp_path, HISTOGRAMS, NATIVE))
    together = one.explainer.columns({name: one.X[name] for name in one.X}).contributions
    listed = one.X.astype(object).where(one.X.notna(), None)[list(one.bundle.column_dtypes)]
    for row, expected in zip(listed.to_numpy().tolist()[-20:], together[-20:], strict=True):
        [alone] = one.explainer.rows([row]).contributions
        np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("class_path", [FOREST, HISTOGRAMS, "sklearn.linear_model.Ridge"])
@pytest.mark.parametrize("classes", [2, 3])
def test_an_answer_is_as_openapi_describes_it(tmp_path, class_path, classes):
    one = Explained(tmp_path, recipe_of(tmp_path, class_path), classes)
    found = one.explainer.columns({name: one.X[name] for name in one.X})
    answer = one.explainer.answer(found, 7)
    jsonschema.validate(answer, explanation_schema(one.bundle, one.bundle.explanation))
    outputs = list(answer["classes"].values()) if "classes" in answer else [answer]
    sums = [one["base_value"] + sum(one["contributions"].values()) for one in outputs]
    np.testing.assert_allclose(sums, one.scores()[7])
    assert ("classes" in answer) == (classes == 3 and "Classifier" in class_path)
    assert answer.get("class", "1") == "1"


def test_a_calibrated_model_is_explained_before_its_calibration(tmp_path):
    recipe = recipe_of(tmp_path, FOREST, more="calibration: {method: sigmoid, period: 1d}\n")
    (X, y), calibration = rows(), Rows(*rows(200, 5))
    plain = fit_pipeline(recipe, X[:300], y[:300])
    data = TrainingData(None, Rows(X[:300], y[:300]), Rows(X, y), None, calibration, None)
    one = Explained(tmp_path, recipe, pipeline=fit_model(recipe, data))
    assert one.bundle.explanation.calibrated
    np.testing.assert_allclose(one.scores()[:, 0], plain.predict_proba(one.X)[:, 1], atol=1e-6)


def test_a_model_that_is_served_by_scikit_learn_is_explained_too(tmp_path, monkeypatch):
    monkeypatch.setattr("runner.packaging.served_model.export_onnx", lambda *_: 1 / 0)
    one = Explained(tmp_path, recipe_of(tmp_path, FOREST))
    assert one.bundle.model.format == "skops"
    assert one.bundle.explanation.preprocessing == ""
    np.testing.assert_allclose(one.scores(), one.raw(), atol=1e-9)


def test_contributions_that_do_not_add_up_are_not_served(tmp_path, monkeypatch):
    def wrong(estimator):
        arrays, space = tree_arrays(estimator)
        return arrays._replace(value=arrays.value * 1.01), space

    tree_arrays = explanations.tree_arrays
    monkeypatch.setattr(explanations, "tree_arrays", wrong)
    one = Explained(tmp_path, recipe_of(tmp_path, FOREST))
    assert one.explainer is None
    assert one.bundle.explanation.unavailable.startswith("contributions differ from the answers")


def test_its_files_are_held_against_their_digests(tmp_path):
    one = Explained(tmp_path, recipe_of(tmp_path, LINEAR))
    for name in ("explanation.npz", "explanation.onnx"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[:-1] + b"x")
        with pytest.raises(BundleError, match="does not match the SHA-256"):
            read_bundle(tmp_path, one.bundle.digest)
        (tmp_path / name).write_bytes(content)
    manifest = json.loads((tmp_path / "serving.json").read_text())
    del manifest["files"]["explanation.onnx"]
    (tmp_path / "serving.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"explanation: no digest of explanation\.onnx"):
        read_bundle(tmp_path)


def test_a_bundle_of_an_earlier_release_has_no_explainer(tmp_path):
    Explained(tmp_path, recipe_of(tmp_path, LINEAR))
    manifest = json.loads((tmp_path / "serving.json").read_text())
    del manifest["explanation"]
    (tmp_path / "serving.json").write_text(json.dumps(manifest))
    bundle = read_bundle(tmp_path)
    assert bundle.explanation is None
    assert load_explainer(bundle, load_model(bundle)) is None

"""What is served is what was fitted: classes where votes tie, small numbers, rows asked alone."""

import functools

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from xgboost import XGBRegressor

from contract.predictions import Predictions
from contract.scoring import load_model
from runner.errors import RunnerError
from runner.modelling.pipeline import build_pipeline
from runner.packaging import served_model as served_models
from runner.packaging.served_model import served_model
from runner.packaging.served_proof import NotEqualError, proof_rows, prove, prove_alone
from tests.modelling import make_recipe, rows
from tests.trainings import written_bundle

TIES = "sklearn.ensemble.RandomForestClassifier, init_args: {n_estimators: 20, random_state: 0}"


@pytest.fixture
def recipe(tmp_path):
    return functools.partial(make_recipe, tmp_path / "recipe.yaml")


def tied(pipeline, X):
    """Return which rows have two classes with the most votes."""
    votes = np.sort(pipeline.predict_proba(X), axis=1)
    return np.isclose(votes[:, -1], votes[:, -2], rtol=0, atol=1e-9)


@pytest.mark.parametrize("labels", [[0, 1], ["no", "yes"], [0, 1, 2]])
def test_a_forest_whose_votes_tie_serves_the_class_of_the_pipeline(recipe, tmp_path, labels):
    X, y = rows(3_000)
    y = np.array(labels)[(y + (X["activity__orders_7d"] > 3)) % len(labels)]
    chosen = recipe(TIES, "accuracy")
    pipeline = build_pipeline(chosen, X).fit(X, y.astype(object) if y.dtype.kind == "U" else y)
    asked, _ = rows(3_000, seed=5)
    assert tied(pipeline, asked).sum() > 20
    served = served_model(pipeline, asked)
    assert served.format == "onnx", served.proof
    model = load_model(written_bundle(tmp_path, chosen, served, labels))
    assert model.score(dict(asked)).labels.tolist() == pipeline.predict(asked).tolist()
    assert served.answer(asked).labels.tolist() == pipeline.predict(asked).tolist()


def numbers(n=600, seed=0):
    return pd.DataFrame(np.random.default_rng(seed).normal(size=(n, 3)), columns=list("abc"))


def above_zero(X):
    return (X["a"] > 0).astype(int)


def spanning_nine_powers_of_ten(X):
    """Return labels near 1, and one in a hundred near 1e9."""
    return np.where(X["a"] > 2.3, 1e9, 1.0) * np.exp(X["b"] / 10)


def test_a_small_prediction_is_proven_as_strictly_as_a_large_one():
    X = numbers(3_000).astype(np.float32)
    pipeline = make_pipeline(SimpleImputer(), XGBRegressor(n_estimators=30, max_depth=3))
    pipeline.fit(X, spanning_nine_powers_of_ten(X))
    with pytest.raises(RunnerError, match="of a row's prediction plus the median one") as err:
        served_model(pipeline, X)
    assert "logarithm" in err.value.hint


def test_a_difference_is_measured_in_relation_to_its_own_row():
    expected = Predictions(np.array([1.0, 1.0, 1e9]), None)
    rows = proof_rows(numbers(3))
    close = Predictions(np.array([1.0, 1.0, 1e9 + 1e3]), None)
    assert "of each row's prediction plus the median one" in prove(expected, lambda _: close, rows)
    wrong = Predictions(np.array([1.0, 1.001, 1e9]), None)
    with pytest.raises(NotEqualError, match=r"differs by 0\.0005 "):
        prove(expected, lambda _: wrong, rows)


def test_proof_rows_lack_each_value_in_turn_and_have_texts_never_seen():
    X, _ = rows()
    proven = proof_rows(X)
    changed = proven.X.iloc[proven.held_out :]
    whole = changed.drop(columns="activity__country").notna().sum(axis=1)
    assert set(whole) >= {0, 2}  # nothing at all, and all but one number
    assert changed["activity__country"].str.contains("seen nowhere").any()
    assert (changed["activity__country"] == "").any()
    assert list(proven.X.dtypes) == list(X.dtypes)


def test_a_forest_that_takes_missing_numbers_as_they_are_is_proven_on_rows_that_have_them(
    monkeypatch,
):
    """skl2onnx sends them another way; held-out rows without any would not show it."""
    X = numbers().astype(np.float32)
    gaps = X.mask(np.random.default_rng(1).random(X.shape) < 0.3)
    steps = ColumnTransformer([("numeric", "passthrough", list(X))])
    forest = make_pipeline(steps, RandomForestClassifier(10, random_state=0))
    forest.fit(gaps, above_zero(X))
    assert served_model(forest, X).format == "onnx"
    monkeypatch.setattr("runner.packaging.onnx_export._send_missing", lambda *_: None)
    served = served_model(forest, X)
    assert served.format == "skops"
    assert "with missing and unseen values" in served.proof


def alone_differs(answer):
    """Return answers whose class turns around when one row is asked alone."""

    def answered(X):
        said = answer(X)
        return said if len(X) > 1 else Predictions(1 - said.labels, said.probabilities)

    return answered


def test_a_row_that_is_answered_alone_as_in_no_batch_is_found():
    X = numbers().astype(np.float32)
    pipeline = make_pipeline(SimpleImputer(), KNeighborsClassifier(4)).fit(
        X, (X["a"] > 0).astype(int)
    )

    def answer(X):
        return Predictions(pipeline.predict(X).astype(int), pipeline.predict_proba(X))

    proven = proof_rows(X)
    prove_alone(pipeline, answer, proven)
    with pytest.raises(NotEqualError, match="class of 616 rows when 616 rows are asked one by one"):
        prove_alone(pipeline, alone_differs(answer), proven)


def test_neighbours_that_depend_on_the_batch_are_refused_with_the_way_out(monkeypatch):
    X = numbers().astype(np.float32)
    pipeline = make_pipeline(SimpleImputer(), KNeighborsClassifier(4)).fit(
        X, (X["a"] > 0).astype(int)
    )

    def refuse(*_):
        raise NotEqualError("differs in the class of 3 rows")

    monkeypatch.setattr(served_models, "prove_alone", refuse)
    with pytest.raises(RunnerError, match="KNeighborsClassifier cannot be served") as err:
        served_model(pipeline, X)
    assert "algorithm: kd_tree" in err.value.hint


def test_a_feature_may_have_any_name():
    names = ["v__My Feature", "v__größe", "v__50%.x", "v__1st-of"]
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 4)), columns=names, dtype="float32")
    X["v__Art der Ware"] = np.where(X["v__größe"] > 0, "a b", "c").astype(object)
    steps = ColumnTransformer(
        [
            ("numeric", SimpleImputer(), names),
            ("categorical", OneHotEncoder(handle_unknown="ignore"), ["v__Art der Ware"]),
        ]
    )
    forest = RandomForestClassifier(5, random_state=0)
    pipeline = make_pipeline(steps, forest).fit(
        X, (X["v__My Feature"] + X["v__größe"] > 0).astype(int)
    )
    served = served_model(pipeline, X)
    assert served.format == "onnx", served.proof

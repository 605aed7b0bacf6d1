"""The trees of LightGBM and XGBoost give as ONNX what they give themselves."""

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from onnxruntime import InferenceSession
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from xgboost import XGBClassifier, XGBRegressor

from runner.errors import RunnerError
from runner.packaging.boosters import teach_boosters
from runner.packaging.served_model import served_model
from runner.packaging.served_proof import TOLERANCE
from runner.recipes.arguments import argument_problems
from runner.recipes.served_arguments import SERVED_VALUES
from tests.modelling import make_recipe

ROWS = 1_200
QUICK = {"n_estimators": 30, "n_jobs": 1, "random_state": 0}
SAMPLED = {"subsample": 0.5, "subsample_freq": 1}
pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names")


def inputs(missing):
    """Return rows with steps, counts and large numbers, a share of the values missing."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(ROWS, 5))
    X[:, 1] = X[:, 1].round()
    X[:, 2] = rng.poisson(2, ROWS)
    X[:, 3] *= 1e6
    X[rng.random(X.shape) < missing] = np.nan
    return X.astype(np.float32)


X = inputs(0.0)
SIGNAL = X[:, 0] * X[:, 1] + X[:, 2]
TWO = (SIGNAL > 1).astype(int)
THREE = np.digitize(SIGNAL, [0, 2])
# Zeros, missing values everywhere, and every threshold there is from both sides.
ASKED = np.concatenate([X, inputs(0.3), np.zeros((1, 5)), np.full((1, 5), np.nan)])


def thresholds(estimator):
    """Return rows that hold each threshold of the fitted trees, and the numbers beside it.

    But those beside zero: LightGBM takes what is nearer than 1e-35 for zero.
    """
    if isinstance(estimator, LGBMClassifier | LGBMRegressor):
        found = estimator.booster_.trees_to_dataframe()["threshold"]
    else:
        found = estimator.get_booster().trees_to_dataframe()["Split"]
    at = found[found.abs().between(1e-30, 1e30)].to_numpy(np.float32)[:2_000, None]
    below, above = (np.nextafter(at, np.float32(end)) for end in (-np.inf, np.inf))
    return np.repeat(np.concatenate([at, below, above]), 5, axis=1)


def as_onnx(estimator, rows):
    """Return what the estimator's ONNX answers."""
    teach_boosters()
    options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "classes_") else None
    model = to_onnx(estimator, initial_types=[("x", FloatTensorType([None, 5]))], options=options)
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": rows.astype(np.float32)})


def named(value):
    """Return a test's id for a class, for arguments or for a label."""
    if isinstance(value, dict):
        return ",".join(f"{k}={v}" for k, v in value.items()) or "defaults"
    return value.__name__ if isinstance(value, type) else None


every_share = pytest.mark.parametrize("missing", [0.0, 0.2])


@every_share
@pytest.mark.parametrize(
    ("cls", "arguments", "y"),
    [
        (LGBMClassifier, {}, TWO),
        (LGBMClassifier, {"class_weight": "balanced"}, np.array(["no", "yes"])[TWO]),
        (LGBMClassifier, {}, np.array(["a", "b", "c"])[THREE]),
        (LGBMClassifier, {"boosting_type": "dart"}, THREE * 10),
        (LGBMClassifier, {"boosting_type": "rf", **SAMPLED}, TWO),
        (XGBClassifier, {}, TWO),
        (XGBClassifier, {}, THREE),
        (XGBClassifier, {"base_score": 0.2, "scale_pos_weight": 3}, TWO),
        (XGBClassifier, {"num_parallel_tree": 3, "subsample": 0.5}, THREE),
        (XGBClassifier, {"tree_method": "exact", "gamma": 2}, TWO),  # prunes what it has grown
    ],
    ids=named,
)
def test_a_classifier_answers_the_same_classes_and_probabilities(cls, arguments, y, missing):
    estimator = cls(**QUICK, **arguments).fit(inputs(missing), y)
    asked = np.concatenate([ASKED, thresholds(estimator)])
    labels, probabilities = as_onnx(estimator, asked)
    expected = estimator.predict_proba(asked)
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=TOLERANCE)
    # where two classes are as likely to the sixth digit, either may be told
    clear = np.sort(expected, axis=1)[:, -2:] @ [-1, 1] > TOLERANCE
    assert clear.mean() > 0.9
    assert labels[clear].tolist() == estimator.predict(asked)[clear].tolist()


@every_share
@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        *((LGBMRegressor, {"boosting_type": kind, **SAMPLED}) for kind in ("gbdt", "dart", "rf")),
        *(
            (LGBMRegressor, {"objective": name})
            for name in ("regression_l1", "huber", "fair", "quantile", "mape")
        ),
        *((LGBMRegressor, {"objective": name}) for name in ("poisson", "gamma", "tweedie")),
        (XGBRegressor, {}),
        *(
            (XGBRegressor, {"objective": f"reg:{name}"})
            for name in ("absoluteerror", "pseudohubererror", "gamma", "tweedie")
        ),
        (XGBRegressor, {"objective": "count:poisson", "base_score": 3}),
    ],
    ids=named,
)
def test_a_regressor_answers_the_same_numbers(cls, arguments, missing):
    estimator = cls(**QUICK, **arguments).fit(inputs(missing), np.exp(SIGNAL / 4))
    asked = np.concatenate([ASKED, thresholds(estimator)])
    expected = estimator.predict(asked)
    [answered] = as_onnx(estimator, asked)
    np.testing.assert_allclose(
        answered.ravel(), expected, rtol=0, atol=TOLERANCE * np.abs(expected).max()
    )


def every_objective():
    """Yield each served objective of a regressor."""
    for cls in (LGBMRegressor, XGBRegressor):
        for objective in SERVED_VALUES[cls.__name__]["objective"]:
            yield pytest.param(cls, objective, id=f"{cls.__name__}-{objective}")


@pytest.mark.parametrize(("cls", "objective"), every_objective())
def test_every_objective_that_check_lets_pass_is_served(cls, objective):
    """Shares fit all of them: 0 or 1 where only those are labels."""
    y = 1 / (1 + np.exp(-SIGNAL / 4)) if "binary" not in objective else TWO
    frame = pd.DataFrame(X, columns=list("abcde"))
    pipeline = make_pipeline(SimpleImputer(), cls(**QUICK, objective=objective)).fit(frame, y)
    served = served_model(pipeline, frame)
    assert served.format == "onnx"
    np.testing.assert_allclose(served.answer(frame).labels, pipeline.predict(frame), atol=1e-5)


@pytest.mark.parametrize(
    ("estimator", "told"),
    [
        ("xgboost.XGBRegressor, init_args: {objective: 'reg:squaredlogerror'}", "squaredlogerror"),
        ("xgboost.XGBRegressor, init_args: {objective: 'rank:ndcg'}", "rank:ndcg"),
        ("xgboost.XGBRegressor, init_args: {booster: dart}", "dart"),
        ("lightgbm.LGBMRegressor, init_args: {objective: cross_entropy_lambda}", "y_lambda"),
    ],
)
def test_an_objective_that_cannot_be_served_is_refused_before_the_join(tmp_path, estimator, told):
    recipe = make_recipe(tmp_path / "recipe.yaml", estimator, "r2", "regression")
    [problem] = argument_problems(recipe)
    assert told in problem.message
    assert "expected one that can be served (" in problem.message


@pytest.mark.parametrize(
    ("cls", "arguments", "reason"),
    [
        (
            LGBMClassifier,
            {"objective": "multiclassova"},
            "objective 'multiclassova num_class:3 sigmoid:1'",
        ),
        (LGBMRegressor, {"zero_as_missing": True}, "zero as missing"),
        (XGBRegressor, {"booster": "gblinear"}, "of booster 'gblinear'"),
        (XGBRegressor, {"booster": "dart"}, "of booster 'dart'"),
        (XGBRegressor, {"objective": "reg:squaredlogerror"}, "objective 'reg:squaredlogerror'"),
        (XGBRegressor, {"missing": -1.0}, "missing -1.0"),
    ],
    ids=named,
)
def test_what_is_not_converted_is_refused_and_never_served_otherwise(cls, arguments, reason):
    frame = pd.DataFrame(X, columns=list("abcde"))
    pipeline = make_pipeline(SimpleImputer(), cls(**QUICK, **arguments)).fit(frame, THREE)
    with pytest.raises(RunnerError, match=f"{cls.__name__} cannot be served: .*{reason}") as err:
        served_model(pipeline, frame)
    assert "runner help recipe" in err.value.hint


def test_what_does_not_prove_equal_is_refused_too(monkeypatch):
    frame = pd.DataFrame(X, columns=list("abcde"))
    pipeline = make_pipeline(SimpleImputer(), XGBRegressor(**QUICK)).fit(frame, SIGNAL)
    served = served_model(pipeline, frame)
    assert served.format == "onnx"
    assert served.proof.startswith("ONNX equals the XGBRegressor pipeline within ")
    monkeypatch.setattr("runner.packaging.boosters._XGBOOST_LINKS", {"reg:squarederror": "exp"})
    with pytest.raises(RunnerError, match="XGBRegressor cannot be served: "):
        served_model(pipeline, frame)

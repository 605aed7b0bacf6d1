"""The allow-list says what scikit-learn and skl2onnx say; scikit-learn checks the arguments."""

import functools
import importlib
import importlib.abc
import re
import sys

import numpy as np
import pandas as pd
import pytest
import skops.io
from onnxruntime import InferenceSession
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from skl2onnx.common.exceptions import MissingShapeCalculator
from sklearn.base import is_classifier, is_regressor
from sklearn.metrics import get_scorer
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.utils import get_tags

from contract.skops_model import TRUSTED_TYPES
from runner.errors import RunnerError
from runner.modelling.pipeline import fit_pipeline
from runner.packaging.boosters import teach_boosters
from runner.recipes.arguments import argument_problems, build_estimator
from runner.recipes.estimators import ESTIMATORS, SCORERS, names_of, wants_scaling
from runner.recipes.recipe import load_recipe
from tests.recipe_files import recipe_text

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(80, 3)).astype(np.float32)
LABELS = {
    "classification": (X[:, 0] > 0).astype(np.int64),
    "regression": np.abs(X[:, 0]) + 0.1,
}
every_estimator = pytest.mark.parametrize("class_path", ESTIMATORS)
OF_SCIKIT_LEARN = [path for path, estimator in ESTIMATORS.items() if not estimator.extra]
every_scorer = pytest.mark.parametrize("name", SCORERS)


def unfitted(class_path):
    module, _, name = class_path.rpartition(".")
    return getattr(importlib.import_module(module), name)()


@functools.cache
def fitted(class_path):
    estimator = unfitted(class_path)
    quick = {"n_estimators": 5} if hasattr(estimator, "n_estimators") else {}
    if ".ensemble.Hist" in class_path or ".neural_network." in class_path:
        quick = {"max_iter": 20}
    return estimator.set_params(**quick).fit(X, LABELS[ESTIMATORS[class_path].task])


@pytest.fixture
def recipe(tmp_path):
    def load(init_args="{}", class_path="sklearn.ensemble.RandomForestClassifier", more=None):
        path = tmp_path / "rf.yaml"
        task = ESTIMATORS[class_path].task
        path.write_text(
            recipe_text(
                {
                    4: f"task: {task}",
                    13: f"  class_path: {class_path}",
                    14: f"  init_args: {init_args}",
                    15: "scoring: [roc_auc]" if task == "classification" else "scoring: [r2]",
                    16: more,
                }
            )
        )
        return load_recipe(path)

    return load


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:Field onnx.AttributeProto.ints:DeprecationWarning")
class TestEveryEstimator:
    @every_estimator
    def test_does_its_task_and_takes_nan_as_listed(self, class_path):
        allowed, estimator = ESTIMATORS[class_path], fitted(class_path)
        assert is_classifier(estimator) == (allowed.task == "classification")
        assert is_regressor(estimator) == (allowed.task == "regression")
        assert get_tags(estimator).input_tags.allow_nan == allowed.accepts_nan

    @pytest.mark.parametrize("class_path", names_of(ESTIMATORS, "classification"))
    def test_answers_probabilities_if_it_classifies(self, class_path):
        assert fitted(class_path).predict_proba(X).shape == (len(X), 2)

    @every_estimator
    def test_converts_to_onnx_as_listed(self, class_path):
        estimator = fitted(class_path)
        teach_boosters()
        options = {"zipmap": False} if is_classifier(estimator) else {}
        inputs = [("x", FloatTensorType([None, X.shape[1]]))]
        if not ESTIMATORS[class_path].onnx:
            with pytest.raises(MissingShapeCalculator):
                to_onnx(estimator, initial_types=inputs)
            return
        model = to_onnx(estimator, initial_types=inputs, options={id(estimator): options})
        session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        predicted = session.run(None, {"x": X})[0].ravel()
        np.testing.assert_allclose(predicted, estimator.predict(X), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("class_path", OF_SCIKIT_LEARN)
    def test_can_be_served_as_skops_where_onnx_is_refused(self, class_path):
        types = skops.io.get_untrusted_types(data=skops.io.dumps(fitted(class_path)))
        assert set(types) <= TRUSTED_TYPES


def test_trees_bayes_and_dummies_are_not_scaled_and_all_others_are():
    unscaled = ("Forest", "Trees", "Tree", "Boosting", "GaussianNB", "Dummy", "LGBM", "XGB")
    for class_path in ESTIMATORS:
        assert wants_scaling(class_path) != any(word in class_path for word in unscaled), class_path


@every_scorer
def test_a_scorer_looks_at_probabilities_as_listed(name):
    assert ("predict_proba" in get_scorer(name)._response_method) == SCORERS[name].probabilities


@every_scorer
def test_a_perfect_model_gets_the_best_score_and_a_worse_one_less(name):
    scorer = SCORERS[name]
    model = KNeighborsClassifier(1) if scorer.task == "classification" else KNeighborsRegressor(1)
    y = LABELS[scorer.task]
    assert get_scorer(name)(model.fit(X, y), X, y) == pytest.approx(scorer.best, abs=1e-6)
    model.fit(X, np.concatenate([y[1:], y[:1]]))
    assert get_scorer(name)(model, X, y) < scorer.best


def test_names_are_those_of_the_task_and_all_without_one():
    assert "r2" in names_of(SCORERS, "regression")
    assert "r2" not in names_of(SCORERS, "classification")
    assert names_of(SCORERS, None) == list(SCORERS)


def test_the_estimator_is_built_with_the_recipes_arguments(recipe):
    estimator = build_estimator(recipe("{n_estimators: 7, max_features: sqrt, max_depth: null}"))
    assert type(estimator).__name__ == "RandomForestClassifier"
    assert (estimator.n_estimators, estimator.max_features) == (7, "sqrt")
    assert not hasattr(estimator, "estimators_")


FOREST = "sklearn.ensemble.RandomForestClassifier"
DUMMY = "sklearn.dummy.DummyClassifier"
HGB = "sklearn.ensemble.HistGradientBoostingClassifier"
LGBM = "lightgbm.LGBMClassifier"
XGB = "xgboost.XGBRegressor"
NOT_IN_RECIPES = {"callbacks", "early_stopping_rounds", "feature_types", "feature_weights"}
NOT_IN_RECIPES |= {"missing"}
NO_SUCH = "RandomForestClassifier has no such argument"
FRACTION = (
    "expected an int in the range [1, inf), a float in the range (0.0, 1.0], a str among "
    "'log2', 'sqrt' or null"
)
CRITERION = "expected a str among 'entropy', 'gini', 'log_loss'"
LEAF = "expected an int in the range [1, inf) or a float in the range (0.0, 1.0)"
LOGREG = "sklearn.linear_model.LogisticRegression"


@pytest.mark.parametrize(
    ("class_path", "init_args", "messages"),
    [
        (
            DUMMY,
            "{strategies: x}",
            ["15: strategies: DummyClassifier has no such argument (did you mean 'strategy'?)"],
        ),
        (FOREST, "{self: 7}", ["15: self: RandomForestClassifier has no such argument"]),
        (
            FOREST,
            "{n_estimators: '7'}",
            ["15: n_estimators: expected an int in the range [1, inf), got '7'"],
        ),
        (
            FOREST,
            "{n_estimators: 7.5}",
            ["15: n_estimators: expected an int in the range [1, inf), got 7.5"],
        ),
        (
            FOREST,
            "{criterion: ginny}",
            ["15: criterion: expected a str among 'entropy', 'gini', 'log_loss', got 'ginny'"],
        ),
        (FOREST, "{bootstrap: 2}", ["15: bootstrap: expected bool, got 2"]),
        (
            HGB,
            "{max_leaf_nodes: true, learning_rate: fast}",
            [
                "15: max_leaf_nodes: expected an int in the range [2, inf) or null, got true",
                "37: learning_rate: expected a float in the range (0.0, inf), got 'fast'",
            ],
        ),
        (
            LOGREG,
            "{C: [1], class_weight: balance, tol: 1e-3}",
            [
                "15: C: expected a float in the range (0.0, inf], got a list",
                "23: class_weight: expected dict, a str among 'balanced' or null, got 'balance'",
            ],
        ),
        (
            LGBM,
            "{num_leafs: 7, verbosity: 1}",
            [
                "15: num_leafs: LGBMClassifier has no such argument (did you mean 'num_leaves'?)",
                "29: verbosity: LGBMClassifier has no such argument",
            ],
        ),
        (
            LGBM,
            "{num_leaves: 7.0, n_jobs: all, learning_rate: true, class_weight: [1]}",
            [
                "15: num_leaves: expected int, got 7.0",
                "32: n_jobs: expected int or null, got 'all'",
                "45: learning_rate: expected float, got true",
                "66: class_weight: expected str or dict or null, got a list",
            ],
        ),
        (
            XGB,
            "{max_depth: '3', objective: 7, missing: -1.0}",
            [
                "15: max_depth: expected int or null, got '3'",
                "31: objective: expected str or null, got 7",
                "45: missing: XGBRegressor has no such argument",
            ],
        ),
    ],
)
def test_every_wrong_argument_is_told_with_its_place(recipe, class_path, init_args, messages):
    wrong = recipe(init_args, class_path)
    with pytest.raises(RunnerError) as refused:
        build_estimator(wrong)
    assert refused.value.message == "; ".join(
        f"{wrong.path}:14:{message}".replace(": ", ": estimator.init_args.", 1)
        for message in messages
    )


@pytest.mark.parametrize(
    ("space", "messages"),
    [
        ("max_dept: {int: [2, 9]}", [f"38: max_dept: {NO_SUCH} (did you mean 'max_depth'?)"]),
        ("forest: {choice: [1, 2, 3]}", [f"38: forest: {NO_SUCH}"]),
        (
            "max_features: {float: [0.0, 1.5]}",
            [
                f"61: max_features.float[0]: {FRACTION}, got 0.0",
                f"66: max_features.float[1]: {FRACTION}, got 1.5",
            ],
        ),
        (
            "criterion: {choice: [gini, ginny, 3]}",
            [
                f"65: criterion.choice[1]: {CRITERION}, got 'ginny'",
                f"72: criterion.choice[2]: {CRITERION}, got 3",
            ],
        ),
        ("min_samples_leaf: {int: [0, 9]}", [f"63: min_samples_leaf.int[0]: {LEAF}, got 0"]),
    ],
)
def test_every_wrong_searched_argument_is_told_with_its_place(recipe, space, messages):
    wrong = recipe(more=f"tuning: {{n_trials: 9, search_space: {{{space}}}}}")
    with pytest.raises(RunnerError) as refused:
        build_estimator(wrong)
    assert refused.value.message == "; ".join(
        f"{wrong.path}:16:{message}".replace(": ", ": tuning.search_space.", 1)
        for message in messages
    )


def test_searched_arguments_that_scikit_learn_takes_are_no_problem(recipe):
    space = "max_depth: {choice: [null, 9]}, max_features: {float: [0.2, 1]}"
    assert not argument_problems(recipe(more=f"tuning: {{n_trials: 9, search_space: {{{space}}}}}"))


def test_the_hint_names_the_arguments_there_are(recipe):
    with pytest.raises(RunnerError) as refused:
        build_estimator(recipe("{alpha: 1}", DUMMY))
    assert refused.value.hint == "DummyClassifier takes strategy, random_state, constant"


@every_estimator
def test_a_value_of_any_kind_is_taken_or_refused(recipe, class_path):
    arguments = set(unfitted(class_path).get_params()) - NOT_IN_RECIPES
    for value in ("zz", "-1.5", "[1, [2]]", "{a: {b: 1}}", "null", "true", "''"):
        loaded = recipe(f"{{{', '.join(f'{name}: {value}' for name in arguments)}}}", class_path)
        try:
            build_estimator(loaded)
        except RunnerError as refused:
            problems = refused.message.split(f"{loaded.path}:")[1:]
            assert all(re.search("expected .+, got ", problem) for problem in problems)


def test_arguments_that_contradict_each_other_are_told_in_scikit_learns_words(recipe):
    contradictory = recipe("{bootstrap: false, oob_score: true}")
    with pytest.raises(RunnerError) as refused:
        fit_pipeline(contradictory, pd.DataFrame(X, columns=list("abc")), LABELS["classification"])
    assert refused.value.message == (
        f"{contradictory.path}:12:1: estimator: scikit-learn cannot fit it: "
        "Out of bag estimation only available if bootstrap=True"
    )


def test_arguments_that_agree_are_fitted(recipe):
    pipeline = fit_pipeline(
        recipe("{n_estimators: 3}"), pd.DataFrame(X, columns=list("abc")), LABELS["classification"]
    )
    assert len(pipeline.named_steps["estimator"].estimators_) == 3


@pytest.mark.parametrize(
    ("class_path", "init_args", "told"),
    [
        (
            LGBM,
            "{n_estimators: -1}",
            "LightGBM cannot fit it: Number of boosting rounds must be",
        ),
        (LGBM, "{boosting_type: gdbt}", "LightGBM cannot fit it: Unknown boosting type gdbt"),
        ("xgboost.XGBClassifier", "{max_depth: -1}", "XGBoost cannot fit it: .*max_depth"),
    ],
)
def test_what_a_booster_does_not_take_is_told_in_its_words(recipe, class_path, init_args, told):
    y = LABELS[ESTIMATORS[class_path].task]
    with pytest.raises(RunnerError, match=re.compile(f"12:1: estimator: {told}", re.DOTALL)) as err:
        fit_pipeline(recipe(init_args, class_path), pd.DataFrame(X, columns=list("abc")), y)
    assert "Stack trace" not in err.value.message


def test_lightgbm_says_nothing_on_stdout_and_grows_the_same_trees_again(recipe, capfd):
    loaded = recipe("{n_estimators: 20, subsample: 0.5, subsample_freq: 1, random_state: 0}", LGBM)
    texts = [
        build_estimator(loaded).fit(X, LABELS["classification"]).booster_.model_to_string()
        for _ in range(2)
    ]
    assert texts[0] == texts[1]
    assert capfd.readouterr().out == ""


class _Absent(importlib.abc.MetaPathFinder):
    """Imports `package` as if it failed with `error`."""

    def __init__(self, package, error):
        self.package, self.error = package, error

    def find_spec(self, name, *_):
        if name == self.package:
            raise self.error


@pytest.mark.parametrize(
    ("error", "told", "hint"),
    [
        (
            ModuleNotFoundError("No module named 'lightgbm'", name="lightgbm"),
            "LightGBM is not installed",
            "run `pip install 'recipe-runner[lightgbm]'`",
        ),
        (
            OSError("libgomp.so.1: cannot open shared object file"),
            "LightGBM cannot be loaded: libgomp.so.1: cannot open shared object file",
            "install it: `apt-get install libgomp1` on Debian and Ubuntu",
        ),
    ],
)
def test_a_library_that_is_not_there_is_told_with_the_command(
    recipe, monkeypatch, error, told, hint
):
    loaded = recipe(class_path=LGBM)
    monkeypatch.delitem(sys.modules, "lightgbm", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_Absent("lightgbm", error), *sys.meta_path])
    with pytest.raises(RunnerError) as refused:
        argument_problems(loaded)
    assert refused.value.message == f"{loaded.path}:13:3: estimator.class_path: {told}"
    assert refused.value.hint == hint

"""A recipe is checked as a whole: every mistake at once, each with its place and what was meant."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import get_origin

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from runner.errors import RunnerError
from runner.recipes.arguments import build_estimator
from runner.recipes.estimators import ESTIMATORS, SCORERS, THRESHOLD_SCORERS, names_of
from runner.recipes.keys_table import recipe_reference, renew
from runner.recipes.problems import keys_of, part_in
from runner.recipes.recipe import Recipe, load_recipe
from runner.recipes.schema import recipe_schema
from runner.recipes.yaml_source import load_yaml
from tests.recipe_files import LINES, recipe_text

ROOT = Path(__file__).resolve().parents[2]
DOCS = (ROOT / "docs" / "recipe.md").read_text()
RECIPES = sorted([*ROOT.glob("recipes/*.yaml"), *ROOT.glob("examples/*/recipes/*.yaml")])


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("recipes")


def load(folder, text):
    path = folder / "rf.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path)


def refusal(folder, text):
    with pytest.raises(RunnerError) as refused:
        load(folder, text)
    assert refused.value.hint
    return refused.value.message.replace(f"{folder}/", "")


def test_every_key_has_its_value(folder):
    recipe = load(folder, recipe_text())
    assert recipe.registered_model_name == "category_purchase_rf"
    assert recipe.experiment_name == "category_purchase"
    assert recipe.description == "Will a user order in a category within 7 days?"
    assert recipe.task == "classification"
    assert (recipe.spine, recipe.label) == ("spine_category_purchase", "is_purchase_7d")
    assert recipe.features == ("user_demographics:*", "user_activity:orders_7d")
    assert (recipe.split.test, recipe.split.embargo) == (timedelta(days=28), timedelta(days=7))
    assert recipe.estimator.class_path == "sklearn.ensemble.RandomForestClassifier"
    assert recipe.estimator.init_args == {"n_estimators": 200, "random_state": 0}
    assert recipe.scoring == ("roc_auc", "neg_log_loss")
    assert recipe.gate == {"roc_auc": 0.7}


def test_what_may_be_left_out_has_the_documented_defaults(folder):
    left_out = {3: None, 9: None, 10: None, 11: None, 14: None, 16: None}
    dumped = load(folder, recipe_text(left_out)).dump()
    assert dumped["description"] == ""
    assert dumped["preprocessing"] == {
        "numeric": {"impute": "median", "add_indicator": False, "scale": "auto"},
        "categorical": {"encode": "onehot", "min_frequency": 20},
    }
    assert dumped["estimator"]["init_args"] == {}
    assert dumped["gate"] == {}


def test_a_part_of_preprocessing_leaves_the_other_parts_at_their_defaults(folder):
    recipe = load(folder, recipe_text({10: "  numeric: {impute: zero}", 11: None}))
    assert recipe.preprocessing.numeric.impute == "zero"
    assert recipe.preprocessing.numeric.scale == "auto"
    assert recipe.preprocessing.categorical.min_frequency == 20


def test_a_recipe_knows_its_file_and_text(folder):
    recipe = load(folder, recipe_text())
    assert recipe.path == folder / "rf.yaml"
    assert recipe.name == "rf"
    assert recipe.source.text == recipe_text()


def test_an_error_about_a_value_names_its_place(folder):
    recipe = load(folder, recipe_text())
    error = recipe.error(("estimator", "init_args", "random_state"), "unlucky", hint="use 7")
    assert error.message == f"{recipe.path}:14:34: estimator.init_args.random_state: unlucky"
    assert error.hint == "use 7"


TUNING = """\
tuning:
  n_trials: 30
  timeout: 10m
  search_space:
    max_depth: {choice: [null, 8]}
    min_samples_leaf: {int: [5, 200], log: true}
    max_features: {float: [0, 1]}
"""


def test_tuning_has_its_values_and_the_documented_defaults(folder):
    tuning = load(folder, recipe_text() + TUNING).tuning
    assert (tuning.n_trials, tuning.timeout) == (30, timedelta(minutes=10))
    assert (tuning.folds, tuning.seed) == (3, 0)
    assert [(each.kind, each.values) for each in tuning.search_space.values()] == [
        ("choice", (None, 8)),
        ("int", (5, 200)),
        ("float", (0.0, 1.0)),
    ]


def test_a_dumped_distribution_has_the_keys_of_its_kind(folder):
    dumped = load(folder, recipe_text() + TUNING).dump()["tuning"]["search_space"]
    assert dumped == {
        "max_depth": {"choice": [None, 8]},
        "min_samples_leaf": {"int": [5, 200], "log": True, "step": 1},
        "max_features": {"float": [0.0, 1.0], "log": False},
    }


def test_parts_that_are_not_there_are_dumped_as_not_there(folder):
    recipe = load(folder, recipe_text())
    assert (recipe.tuning, recipe.calibration, recipe.decision_threshold) == (None, None, None)
    assert recipe.slices == recipe.feature_overrides == ()
    assert not {"tuning", "calibration", "decision_threshold"} & recipe.dump().keys()


def test_a_fixed_threshold_is_dumped_without_the_keys_of_a_chosen_one(folder):
    fixed = load(folder, recipe_text({17: "decision_threshold: {value: 0.3}"}))
    assert fixed.dump()["decision_threshold"] == {"value": 0.3}
    chosen = load(folder, recipe_text({17: "decision_threshold: {maximize: f1, period: 336h}"}))
    assert chosen.dump()["decision_threshold"] == {"maximize": "f1", "period": "14d"}


def test_arguments_are_added_to_a_copy(folder):
    recipe = load(folder, recipe_text())
    changed = recipe.with_arguments({"max_depth": 3, "n_estimators": 9})
    assert changed.estimator.init_args == {"max_depth": 3, "n_estimators": 9, "random_state": 0}
    assert recipe.estimator.init_args == {"n_estimators": 200, "random_state": 0}
    assert changed.source is recipe.source


def test_a_recipe_does_not_change(folder):
    recipe = load(folder, recipe_text())
    with pytest.raises(ValidationError, match="frozen"):
        recipe.label = "other"
    with pytest.raises(ValidationError, match="frozen"):
        recipe.split.test = timedelta(0)


NAME = "expected up to 100 letters, digits, _, - and ., the first a letter or digit"
WORD = "expected a name of letters, digits and _"
EXAMPLE = "write a whole number and s, m, h or d, such as 7d"
SPACE = "search_space: {max_depth: {int: [2, 9]}}"

REGRESSION = {
    4: "task: regression",
    13: "  class_path: sklearn.linear_model.Ridge",
    14: None,
    15: "scoring: [r2]",
    16: None,
}

WRONG = [
    # Keys
    ({1: None}, "1:1: registered_model_name: missing"),
    ({2: None}, "1:1: experiment_name: missing"),
    ({4: None}, "1:1: task: missing"),
    ({5: None}, "1:1: spine: missing"),
    ({6: None}, "1:1: label: missing"),
    ({7: None}, "1:1: features: missing"),
    ({8: None}, "1:1: split: missing"),
    ({8: "split: {test: 28d}"}, "8:1: split.embargo: missing"),
    ({8: "split: {embargo: 7d}"}, "8:1: split.test: missing"),
    ({13: None}, "12:1: estimator.class_path: missing"),
    ({15: None}, "1:1: scoring: missing"),
    ({3: "descripton: x"}, "3:1: descripton: unknown key (did you mean 'description'?)"),
    ({3: "target: cloud"}, "3:1: target: unknown key"),
    ({3: "'a b\\n': x"}, "3:1: 'a b\\\\n': unknown key"),
    (
        {8: "split: {test: 28d, embargo: 7d, tests: 1d}"},
        "8:33: split.tests: unknown key (did you mean 'test'?)",
    ),
    (
        {10: "  numerical: {impute: mean}"},
        "10:3: preprocessing.numerical: unknown key (did you mean 'numeric'?)",
    ),
    (
        {10: "  numeric: {imputer: mean}"},
        "10:13: preprocessing.numeric.imputer: unknown key (did you mean 'impute'?)",
    ),
    (
        {14: "  params: {n_estimators: 1}"},
        "14:3: estimator.params: unknown key",
    ),
    # Names
    ({1: "registered_model_name:"}, "1:1: registered_model_name: expected text, got nothing"),
    ({1: "registered_model_name: 7"}, "1:1: registered_model_name: expected text, got 7"),
    ({1: "registered_model_name: ''"}, f"1:1: registered_model_name: {NAME}, got ''"),
    ({1: "registered_model_name: a/b"}, f"1:1: registered_model_name: {NAME}, got 'a/b'"),
    ({1: "registered_model_name: .."}, f"1:1: registered_model_name: {NAME}, got '..'"),
    ({2: "experiment_name: [a]"}, "2:1: experiment_name: expected text, got a list"),
    ({2: "experiment_name: a:b"}, f"2:1: experiment_name: {NAME}, got 'a:b'"),
    (
        {2: f"experiment_name: {'n' * 101}"},
        f"2:1: experiment_name: {NAME}, got '{'n' * 27}...{'n' * 28}'",
    ),
    ({3: "description: true"}, "3:1: description: expected text, got true"),
    (
        {3: f"description: {'d' * 2001}"},
        f"3:1: description: expected at most 2000 characters, got '{'d' * 27}...{'d' * 28}'",
    ),
    ({4: "task: classify"}, "4:1: task: expected 'classification' or 'regression', got 'classify'"),
    ({5: "spine: +spine_x"}, f"5:1: spine: {WORD}, got '+spine_x'"),
    ({5: "spine: spine_data.spine_x"}, f"5:1: spine: {WORD}, got 'spine_data.spine_x'"),
    ({6: "label: 7d"}, f"6:1: label: {WORD}, got '7d'"),
    # Features
    ({7: "features: []"}, "7:1: features: expected at least one entry"),
    ({7: 'features: "user_activity:*"'}, "7:1: features: expected a list, got 'user_activity:*'"),
    ({7: "features: [3]"}, "7:12: features[0]: expected text, got 3"),
    ({7: "features: [{a: b}]"}, "7:12: features[0]: expected text, got `key: value` lines"),
    (
        {7: "features: [user_activity]"},
        "7:12: features[0]: expected `view:feature` or `view:*`, got 'user_activity'",
    ),
    (
        {7: "features: [user_activity.orders_7d]"},
        (
            "7:12: features[0]: expected `view:feature` or `view:*`, got 'user_activity.orders_7d' "
            "(did you mean 'user_activity:orders_7d'?)"
        ),
    ),
    (
        {7: 'features: ["a:*", "a:x:y"]'},
        "7:19: features[1]: expected `view:feature` or `view:*`, got 'a:x:y'",
    ),
    ({7: 'features: ["a:x", "a:x"]'}, "7:19: features[1]: 'a:x' is listed twice"),
    ({7: 'features: ["a:*", "a:*"]'}, "7:19: features[1]: 'a:*' is listed twice"),
    (
        {7: 'features: ["a:x", "a:*"]'},
        "7:12: features[0]: 'a:x' is part of 'a:*', which is listed too",
    ),
    # Split
    ({8: "split: 28d"}, "8:1: split: expected `key: value` lines, got '28d'"),
    ({8: "split: {test: 0d, embargo: 7d}"}, "8:9: split.test: expected a duration longer than 0"),
    (
        {8: "split: {test: 28, embargo: 7d}"},
        "8:9: split.test: expected a duration such as 7d, got 28",
    ),
    (
        {8: "split: {test: 0.2, embargo: 7d}"},
        "8:9: split.test: expected a duration such as 7d, got 0.2",
    ),
    (
        {8: "split: {test: 28d, embargo: -7d}"},
        f"8:20: split.embargo: '-7d' is not a duration; {EXAMPLE}",
    ),
    (
        {8: "split: {test: 28d, embargo: 1w}"},
        f"8:20: split.embargo: '1w' is not a duration; {EXAMPLE}",
    ),
    (
        {8: "split: {test: 99999999999d, embargo: 7d}"},
        "8:9: split.test: '99999999999d' is longer than 36500d",
    ),
    # Preprocessing
    (
        {9: "preprocessing:", 10: None, 11: None},
        "9:1: preprocessing: expected `key: value` lines, got nothing",
    ),
    (
        {10: "  numeric: {impute: 1}"},
        "10:13: preprocessing.numeric.impute: expected 'median', 'mean', 'zero' or 'none', got 1",
    ),
    (
        {10: "  numeric: {scale: true}"},
        "10:13: preprocessing.numeric.scale: expected 'auto', 'standard' or 'none', got true",
    ),
    (
        {11: "  categorical: {encode: 1}"},
        "11:17: preprocessing.categorical.encode: expected 'onehot', 'target' or 'ordinal', got 1",
    ),
    (
        {11: "  categorical: {min_frequency: 0}"},
        "11:17: preprocessing.categorical.min_frequency: expected 1 or more, got 0",
    ),
    (
        {11: "  categorical: {min_frequency: 0.01}"},
        "11:17: preprocessing.categorical.min_frequency: expected a whole number, got 0.01",
    ),
    # Estimator
    (
        {13: "  class_path: sklearn.ensemble.RandomForest"},
        (
            "13:3: estimator.class_path: 'sklearn.ensemble.RandomForest' is not on the list (did "
            "you mean 'sklearn.ensemble.RandomForestClassifier'?)"
        ),
    ),
    (
        {13: "  class_path: RandomForestClassifier"},
        (
            "13:3: estimator.class_path: 'RandomForestClassifier' is not on the list (did you mean "
            "'sklearn.ensemble.RandomForestClassifier'?)"
        ),
    ),
    (
        {13: "  class_path: os.system"},
        "13:3: estimator.class_path: 'os.system' is not on the list",
    ),
    (
        {13: "  class_path: sklearn.ensemble.RandomForestRegressor"},
        (
            "13:3: estimator.class_path: 'sklearn.ensemble.RandomForestRegressor' is not for "
            "classification (did you mean 'sklearn.ensemble.RandomForestClassifier'?)"
        ),
    ),
    ({13: "  class_path: [a]"}, "13:3: estimator.class_path: expected text, got a list"),
    (
        {14: "  init_args: [200]"},
        "14:3: estimator.init_args: expected `key: value` lines, got a list",
    ),
    # Scoring
    ({15: "scoring: roc_auc"}, "15:1: scoring: expected a list, got 'roc_auc'"),
    ({15: "scoring: []"}, "15:1: scoring: expected at least one entry"),
    (
        {15: "scoring: [roc_auc, log_loss]"},
        "15:20: scoring[1]: 'log_loss' is not on the list (did you mean 'neg_log_loss'?)",
    ),
    (
        {15: "scoring: [PR_AUC]"},
        "15:11: scoring[0]: 'PR_AUC' is not on the list (did you mean 'average_precision'?)",
    ),
    (
        {15: "scoring: [ROC_AUC]"},
        "15:11: scoring[0]: 'ROC_AUC' is not on the list (did you mean 'roc_auc'?)",
    ),
    ({15: "scoring: [roc_auc, r2]"}, "15:20: scoring[1]: 'r2' is not for classification"),
    ({15: "scoring: [roc_auc, roc_auc]"}, "15:20: scoring[1]: 'roc_auc' is listed twice"),
    ({15: "scoring: [roc_auc, null]"}, "15:20: scoring[1]: expected text, got nothing"),
    # Gate
    ({16: "gate: 0.7"}, "16:1: gate: expected `key: value` lines, got 0.7"),
    ({16: "min_shadow_days: 7d"}, "16:1: min_shadow_days: expected a whole number, got '7d'"),
    ({16: "gate: {roc_auc: high}"}, "16:8: gate.roc_auc: expected a number, got 'high'"),
    ({16: "gate: {roc_auc: true}"}, "16:8: gate.roc_auc: expected a number, got true"),
    (
        {16: "gate: {rocauc: 0.7}"},
        "16:8: gate.rocauc: not among scoring (did you mean 'roc_auc'?)",
    ),
    (
        {16: "gate: {accuracy: 0.7}"},
        "16:8: gate.accuracy: not among scoring",
    ),
    ({16: "gate: {roc_auc: 70}"}, "16:8: gate.roc_auc: no model reaches 70; the best roc_auc is 1"),
    (
        {16: "gate: {neg_log_loss: 0.5}"},
        "16:8: gate.neg_log_loss: no model reaches 0.5; the best neg_log_loss is 0",
    ),
    # Tuning
    ({17: "tuning:"}, "17:1: tuning: expected `key: value` lines, got nothing"),
    ({17: "tuning: 30"}, "17:1: tuning: expected `key: value` lines, got 30"),
    ({17: f"tuning: {{{SPACE}}}"}, "17:1: tuning.n_trials: missing"),
    ({17: "tuning: {n_trials: 9}"}, "17:1: tuning.search_space: missing"),
    (
        {17: f"tuning: {{trials: 9, n_trials: 9, {SPACE}}}"},
        "17:10: tuning.trials: unknown key (did you mean 'n_trials'?)",
    ),
    (
        {17: f"tuning: {{n_trials: 0, {SPACE}}}"},
        "17:10: tuning.n_trials: expected 1 or more, got 0",
    ),
    (
        {17: f"tuning: {{n_trials: 10001, {SPACE}}}"},
        "17:10: tuning.n_trials: expected 10000 or less, got 10001",
    ),
    (
        {17: f"tuning: {{n_trials: many, {SPACE}}}"},
        "17:10: tuning.n_trials: expected a whole number, got 'many'",
    ),
    (
        {17: f"tuning: {{n_trials: 9, timeout: 600, {SPACE}}}"},
        "17:23: tuning.timeout: expected a duration such as 7d, got 600",
    ),
    (
        {17: f"tuning: {{n_trials: 9, timeout: 0m, {SPACE}}}"},
        "17:23: tuning.timeout: expected a duration longer than 0",
    ),
    (
        {17: f"tuning: {{n_trials: 9, folds: 0, {SPACE}}}"},
        "17:23: tuning.folds: expected 1 or more, got 0",
    ),
    (
        {17: f"tuning: {{n_trials: 9, seed: -1, {SPACE}}}"},
        "17:23: tuning.seed: expected 0 or more, got -1",
    ),
    (
        {17: "tuning: {n_trials: 9, search_space: {}}"},
        "17:23: tuning.search_space: expected at least one entry",
    ),
    (
        {17: "tuning: {n_trials: 9, search_space: [max_depth]}"},
        "17:23: tuning.search_space: expected `key: value` lines, got a list",
    ),
    *(
        (
            {17: "tuning: {n_trials: 9, search_space: {" + space + "}}"},
            f"17:{column}: tuning.search_space.{message}",
        )
        for space, column, message in (
            (
                "n_estimators: {choice: [50, 100]}",
                38,
                "n_estimators: is fixed in estimator.init_args too",
            ),
            ("max_depth: [2, 9]", 38, "max_depth: expected `key: value` lines, got a list"),
            (
                "max_depth: {log: true}",
                38,
                "max_depth: expected one of int, float and choice, got none of them",
            ),
            (
                "max_depth: {int: [2, 9], choice: [2]}",
                38,
                "max_depth: expected one of int, float and choice, got int and choice",
            ),
            (
                "max_depth: {itn: [2, 9], int: [2, 9]}",
                50,
                "max_depth.itn: unknown key (did you mean 'int'?)",
            ),
            ("max_depth: {int: 9}", 50, "max_depth.int: expected a list, got 9"),
            ("max_depth: {int: [2]}", 50, "max_depth.int: expected [low, high], got 1 values"),
            (
                "max_depth: {int: [2, 9.5]}",
                59,
                "max_depth.int[1]: expected a whole number, got 9.5",
            ),
            (
                "max_depth: {int: [9, 2]}",
                50,
                "max_depth.int: the low end 9 is not below the high end 2",
            ),
            (
                "max_depth: {float: [0.5, 0.5]}",
                50,
                "max_depth.float: the low end 0.5 is not below the high end 0.5",
            ),
            (
                "max_depth: {float: [-1e308, 1e308]}",
                50,
                "max_depth.float: -1e+308 to 1e+308 is wider than numbers go",
            ),
            (
                "max_depth: {float: [0.5, high]}",
                63,
                "max_depth.float[1]: expected a number, got 'high'",
            ),
            (
                "max_depth: {int: [2, 9], step: 0}",
                63,
                "max_depth.step: expected 1 or more, got 0",
            ),
            (
                "max_depth: {int: [2, 9], step: 4}",
                59,
                "max_depth.int[1]: 9 is not reached from 2 in steps of 4",
            ),
            (
                "max_depth: {int: [0, 9], log: true}",
                56,
                "max_depth.int[0]: expected a low end above 0 for log, got 0",
            ),
            (
                "max_depth: {int: [2, 8], step: 2, log: true}",
                63,
                "max_depth.step: is not for log",
            ),
            (
                "max_depth: {int: [2, 9], log: 10}",
                63,
                "max_depth.log: expected true or false, got 10",
            ),
            (
                "max_depth: {float: [0.1, 0.9], step: 2}",
                69,
                "max_depth.step: is not for float",
            ),
            (
                "max_depth: {choice: [2, 9], log: true}",
                66,
                "max_depth.log: is not for choice",
            ),
            (
                "max_depth: {choice: []}",
                50,
                "max_depth.choice: expected at least one entry",
            ),
            (
                "max_depth: {choice: [2, {a: 3}]}",
                62,
                (
                    "max_depth.choice[1]: expected text, a number, a flag or null, got "
                    "`key: value` lines"
                ),
            ),
            (
                "max_depth: {choice: [2, 2]}",
                62,
                "max_depth.choice[1]: 2 is listed twice",
            ),
        )
    ),
    *(
        (
            {17: "tuning: {n_trials: 9, search_space: {" + name + ": {int: [1, 9]}}}"},
            f"17:38: tuning.search_space.{name}: is not searched for: {reason}",
        )
        for name, reason in (
            ("random_state", "the best of several seeds is the luckiest"),
            ("n_jobs", "it does not change the model"),
            ("verbose", "it does not change the model"),
        )
    ),
    # Calibration
    ({17: "calibration:"}, "17:1: calibration: expected `key: value` lines, got nothing"),
    ({17: "calibration: sigmoid"}, "17:1: calibration: expected `key: value` lines, got 'sigmoid'"),
    ({17: "calibration: {method: sigmoid}"}, "17:1: calibration.period: missing"),
    ({17: "calibration: {period: 14d}"}, "17:1: calibration.method: missing"),
    (
        {17: "calibration: {method: platt, period: 14d}"},
        "17:15: calibration.method: expected 'sigmoid' or 'isotonic', got 'platt'",
    ),
    (
        {17: "calibration: {method: sigmoid, period: 0d}"},
        "17:32: calibration.period: expected a duration longer than 0",
    ),
    (
        {17: "calibration: {method: sigmoid, period: 14d, periods: 3}"},
        "17:45: calibration.periods: unknown key (did you mean 'period'?)",
    ),
    (
        {17: "calibrate: {method: sigmoid}"},
        "17:1: calibrate: unknown key (did you mean 'calibration'?)",
    ),
    # Decision threshold
    (
        {17: "decision_threshold: 0.3"},
        "17:1: decision_threshold: expected `key: value` lines, got 0.3",
    ),
    (
        {17: "decision_threshold: {}"},
        "17:1: decision_threshold: expected one of value and maximize, got none of them",
    ),
    (
        {17: "decision_threshold: {value: 0.3, maximize: f1, period: 14d}"},
        "17:1: decision_threshold: expected one of value and maximize, got both",
    ),
    (
        {17: "decision_threshold: {value: 30}"},
        "17:22: decision_threshold.value: expected 1.0 or less, got 30",
    ),
    (
        {17: "decision_threshold: {value: -0.1}"},
        "17:22: decision_threshold.value: expected 0.0 or more, got -0.1",
    ),
    (
        {17: "decision_threshold: {value: high}"},
        "17:22: decision_threshold.value: expected a number, got 'high'",
    ),
    (
        {17: "decision_threshold: {value: 0.3, period: 14d}"},
        "17:34: decision_threshold.period: is not for value",
    ),
    (
        {17: "decision_threshold: {maximize: f1}"},
        "17:1: decision_threshold: period is missing",
    ),
    (
        {17: "decision_threshold: {maximise: f1, period: 14d}"},
        "17:22: decision_threshold.maximise: unknown key (did you mean 'maximize'?)",
    ),
    (
        {17: "decision_threshold: {maximize: f1_wheighted, period: 14d}"},
        (
            "17:22: decision_threshold.maximize: 'f1_wheighted' is not on the list (did you mean "
            "'f1_weighted'?)"
        ),
    ),
    (
        {17: "decision_threshold: {maximize: roc_auc, period: 14d}"},
        (
            "17:22: decision_threshold.maximize: 'roc_auc' looks at probabilities, which no "
            "threshold changes"
        ),
    ),
    (
        {17: "decision_threshold: {maximize: recall, period: 14d}"},
        (
            "17:22: decision_threshold.maximize: 'recall' alone is best where all rows, or hardly "
            "any, are predicted to be of the second class"
        ),
    ),
    (
        {17: "decision_threshold: {maximize: r2, period: 14d}"},
        "17:22: decision_threshold.maximize: 'r2' is not for classification",
    ),
    *(
        ({**REGRESSION, 17: f"{key}: {{{value}}}"}, f"15:1: {key}: is not for regression")
        for key, value in (
            ("calibration", "method: sigmoid, period: 14d"),
            ("decision_threshold", "value: 0.3"),
        )
    ),
    # Slices
    ({17: "slices: category_id"}, "17:1: slices: expected a list, got 'category_id'"),
    ({17: "slices: [7]"}, "17:10: slices[0]: expected text, got 7"),
    (
        {17: "slices: [category id]"},
        "17:10: slices[0]: expected a column of the spine or `view:feature`, got 'category id'",
    ),
    (
        {17: 'slices: ["user_demographics:*"]'},
        (
            "17:10: slices[0]: expected a column of the spine or `view:feature`, got "
            "'user_demographics:*'"
        ),
    ),
    ({17: "slices: [a, a]"}, "17:13: slices[1]: 'a' is listed twice"),
    (
        {17: 'slices: ["user_activity:orders_1d"]'},
        (
            "17:10: slices[0]: 'user_activity:orders_1d' is not among features (did you mean "
            "'user_activity:orders_7d'?)"
        ),
    ),
    ({17: "slice: [a]"}, "17:1: slice: unknown key (did you mean 'slices'?)"),
    # Feature overrides
    ({17: "feature_overrides: x:y"}, "17:1: feature_overrides: expected a list, got 'x:y'"),
    (
        {17: "feature_overrides: [orders_7d]"},
        "17:21: feature_overrides[0]: expected `view:feature` or `view:*`, got 'orders_7d'",
    ),
    (
        {17: 'feature_overrides: ["user_activity:orders_1d"]'},
        (
            "17:21: feature_overrides[0]: 'user_activity:orders_1d' is not among features (did you "
            "mean 'user_activity:orders_7d'?)"
        ),
    ),
    (
        {17: 'feature_overrides: ["user_activity:orders_7d", "user_activity:orders_7d"]'},
        "17:48: feature_overrides[1]: 'user_activity:orders_7d' is listed twice",
    ),
    # Limits of `runner monitor`
    ({17: "monitor: {max_drift: 2}"}, "17:11: monitor.max_drift: expected 1.0 or less, got 2"),
    (
        {17: "monitor: {max_ages: 1d}"},
        "17:11: monitor.max_ages: unknown key (did you mean 'max_age'?)",
    ),
    (
        {17: "monitor: {min_scores: {roc_auk: 0.7}}"},
        "17:24: monitor.min_scores.roc_auk: not among scoring (did you mean 'roc_auc'?)",
    ),
    # YAML itself
    ({5: "label: again"}, "6:1: key 'label' occurs twice, first in line 5"),
    ({8: "split: {test: &t 28d, embargo: *t}"}, "8:15: anchors and aliases are not taken"),
    ({5: "spine: !!str x"}, "5:8: tag tag:yaml.org,2002:str is not taken"),
    ({5: "spine:spine_x"}, "5:1: expected `key: value`"),
    ({14: "\tinit_args: {}"}, "14:1: not valid YAML: a tab"),
    (
        {8: "split: {<<: {test: 28d}, embargo: 7d}"},
        "8:9: merge keys are not taken",
    ),
    ({16: "---"}, "16:1: a second document begins"),
    ({5: "spine: a: b"}, "5:9: not valid YAML: mapping values are not allowed here"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_recipe_is_told_with_its_place_and_what_was_expected(folder, changes, message):
    assert refusal(folder, recipe_text(changes)) == f"rf.yaml:{message}"


def test_every_mistake_is_told_at_once_in_the_order_of_the_file(folder):
    changes = {
        2: "experiment: x",
        4: "task: regression",
        7: 'features: ["a:*", b, "a:x"]',
        8: "split: {test: 0d, embargo: 7}",
        15: "scoring: [r2, roc_auc, rmse]",
        16: "gate: {r2: 2}",
    }
    assert refusal(folder, recipe_text(changes)).split("; ") == [
        "rf.yaml:1:1: experiment_name: missing",
        "rf.yaml:2:1: experiment: unknown key (did you mean 'experiment_name'?)",
        "rf.yaml:7:19: features[1]: expected `view:feature` or `view:*`, got 'b'",
        "rf.yaml:7:22: features[2]: 'a:x' is part of 'a:*', which is listed too",
        "rf.yaml:8:9: split.test: expected a duration longer than 0",
        "rf.yaml:8:19: split.embargo: expected a duration such as 7d, got 7",
        (
            "rf.yaml:13:3: estimator.class_path: 'sklearn.ensemble.RandomForestClassifier' is not "
            "for regression (did you mean 'sklearn.ensemble.RandomForestRegressor'?)"
        ),
        "rf.yaml:15:15: scoring[1]: 'roc_auc' is not for regression",
        (
            "rf.yaml:15:24: scoring[2]: 'rmse' is not on the list (did you mean "
            "'neg_root_mean_squared_error'?)"
        ),
    ]


def test_a_wrong_task_does_not_make_estimator_and_scorers_wrong(folder):
    assert "; " not in refusal(folder, recipe_text({4: "task: classify"}))


def test_wrong_scoring_does_not_make_the_gate_wrong(folder):
    assert "gate" not in refusal(folder, recipe_text({15: "scoring: [auc]"}))


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({3: "target: x"}, "known here: registered_model_name, experiment_name, description, task"),
        ({8: "split: {embargo: 7d}"}, "add `test: …`; `runner help recipe` describes every key"),
        ({13: "  class_path: a.B"}, "`runner help recipe` lists the estimators"),
        ({15: "scoring: [auc]"}, "`runner help recipe` lists the scorers"),
        ({16: 'gate: {roc_auc: "0.7"}'}, "write digits, without quotes"),
        ({11: "  categorical: {min_frequency: 0x14}"}, "write digits only, without quotes"),
        ({17: f"tuning: {{n_trials: 1e2, {SPACE}}}"}, "write digits only, without quotes"),
        (
            {17: "tuning: {n_trials: 9, search_space: {max_depth: {int: [2, 9], log: yes}}}"},
            "write true or false, without quotes",
        ),
        ({16: "gate: {f1: 0.5}"}, "scoring is roc_auc, neg_log_loss"),
        ({16: "gate: {neg_log_loss: 0.5}"}, "losses are negative: write -0.5 for 0.5"),
        (
            {17: "tuning: {n_trials: 9, search_space: {max_depth: {int: [2, 9], step: 4}}}"},
            "write 6 or 10",
        ),
        (
            {17: "tuning: {n_trials: 9, search_space: {max_depth: {integer: [2, 9]}}}"},
            "known here: int, float, choice, log, step",
        ),
        ({17: "decision_threshold: {value: 0.3, period: 7d}"}, "a fixed value needs no validation"),
        ({17: "decision_threshold: {maximize: auc, period: 7d}"}, "choose one of accuracy, bal"),
        ({17: "tuning: {n_trials: 9, search_space: {n_jobs: {int: [1, 2]}}}"}, "fix n_jobs in"),
        ({4: "task: 1", 5: "spine: 1"}, "correct these 2 places, which `runner check "),
    ],
)
def test_the_hint_says_what_to_do(folder, changes, hint):
    with pytest.raises(RunnerError) as refused:
        load(folder, recipe_text(changes))
    assert hint in refused.value.hint


@pytest.mark.parametrize("name", ["rf", "rf.txt", ".yaml", "a b.yaml", "-x.yaml", "recipes.d"])
def test_a_file_name_that_no_feature_service_could_have_is_refused(tmp_path, name):
    (tmp_path / name).write_text(recipe_text())
    with pytest.raises(RunnerError, match="not a recipe's file name"):
        load_recipe(tmp_path / name)


def test_a_missing_recipe_is_looked_for_beside_it(folder):
    load(folder, recipe_text())
    with pytest.raises(RunnerError) as refused:
        load_recipe(folder / "rff.yaml")
    there = folder / "rf.yaml"
    assert refused.value.message.endswith(f"rff.yaml: no such file (did you mean '{there}'?)")
    assert refused.value.hint == f"recipes there: {there}; `runner new NAME` writes one"
    with pytest.raises(RunnerError, match=r"no such file$") as refused:
        load_recipe(folder / "none" / "rf.yaml")
    assert "recipes there: none" in refused.value.hint


@pytest.mark.parametrize("name", ["rf", "rf.yaml", "rf.yml", "recipes/rf"])
def test_a_recipe_may_be_meant_by_less_than_its_path(tmp_path, name):
    (tmp_path / "recipes").mkdir()
    there = tmp_path / "recipes" / "rf.yaml"
    there.write_text(recipe_text())
    with pytest.raises(RunnerError) as refused:
        load_recipe(tmp_path / name)
    assert refused.value.message == f"{tmp_path / name}: no such file (did you mean '{there}'?)"


def test_a_folder_is_no_recipe(tmp_path):
    load(tmp_path, recipe_text())
    with pytest.raises(RunnerError, match=r"a folder, not a recipe$") as refused:
        load_recipe(tmp_path)
    assert refused.value.hint.startswith(f"recipes there: {tmp_path / 'rf.yaml'};")


def test_no_dotted_path_of_a_recipe_is_imported(folder, tmp_path, monkeypatch):
    (tmp_path / "intruder.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "not on the list" in refusal(folder, recipe_text({13: "  class_path: intruder.Model"}))
    assert "intruder" not in sys.modules


def test_reading_a_recipe_does_not_wait_for_scikit_learn():
    code = (
        "import runner.recipes.recipe, sys; "
        "print(*{'sklearn', 'numpy', 'pandas', 'feast', 'mlflow', 'optuna'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()


LETTERS = "abcxyzABCXYZ_0189"
identifiers = st.text(LETTERS, min_size=1, max_size=12).map("_{}".format)
names = st.text(LETTERS + ".-", max_size=20).map("7{}".format)
durations = st.builds("{}{}".format, st.integers(1, 36_500), st.sampled_from("smhd"))
texts = st.text(st.characters(max_codepoint=0xD7FF, exclude_categories=["Cc"]), max_size=30)
arguments = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | texts
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def distributions(draw):
    """Draw a right distribution of the search space."""
    log, kind = draw(st.booleans()), draw(st.sampled_from(["int", "float", "choice"]))
    if kind == "choice":
        scalars = st.none() | st.booleans() | st.integers(-99, 99) | texts | st.floats(-9, 9)
        return {"choice": draw(st.lists(scalars, min_size=1, max_size=4, unique_by=repr))}
    low = draw(st.integers(1, 99) if kind == "int" else st.floats(0.01, 99))
    if kind == "float":
        return {"float": [low, low + draw(st.floats(1, 9))], "log": log}
    step = 1 if log else draw(st.integers(1, 9))
    return {"int": [low, low + step * draw(st.integers(1, 9))], "log": log, "step": step}


@st.composite
def tunings(draw, fixed):
    """Draw a right tuning of arguments that are not in `fixed`."""
    return {
        "n_trials": draw(st.integers(1, 10_000)),
        "timeout": draw(st.none() | durations),
        "folds": draw(st.integers(1, 20)),
        "seed": draw(st.integers(0, 2**32 - 1)),
        "search_space": draw(
            st.dictionaries(
                texts.filter(lambda name: name not in fixed),
                distributions(),
                min_size=1,
                max_size=3,
            )
        ),
    }


@st.composite
def recipes(draw):
    """Draw the content of a right recipe, what may be left out sometimes left out."""
    task = draw(st.sampled_from(["classification", "regression"]))
    views = draw(st.lists(identifiers, min_size=1, max_size=4, unique=True))
    features = [f"{view}:{draw(identifiers | st.just('*'))}" for view in views]
    scoring = draw(
        st.lists(st.sampled_from(names_of(SCORERS, task)), min_size=1, max_size=4, unique=True)
    )
    init_args = draw(st.dictionaries(texts, arguments, max_size=3))
    if task == "classification":
        calibration = st.fixed_dictionaries(
            {"method": st.sampled_from(["sigmoid", "isotonic"]), "period": durations}
        )
        chosen = st.fixed_dictionaries(
            {"maximize": st.sampled_from(THRESHOLD_SCORERS), "period": durations}
        )
        fixed = st.fixed_dictionaries({"value": st.floats(0, 1)})
        probabilities = {
            "calibration": draw(calibration),
            "decision_threshold": draw(chosen | fixed),
        }
    else:
        probabilities = {}
    optional = {
        **probabilities,
        "slices": draw(
            st.lists(
                # Of `view:*`, any feature.
                identifiers | st.sampled_from([each.replace("*", "x") for each in features]),
                max_size=3,
                unique=True,
            )
        ),
        "feature_overrides": draw(st.lists(st.sampled_from(features), max_size=3, unique=True)),
        "description": draw(texts),
        "tuning": draw(tunings(init_args)),
        "preprocessing": {
            "numeric": {"impute": draw(st.sampled_from(["median", "mean", "zero"]))},
            "categorical": {"min_frequency": draw(st.integers(1, 10**6))},
        },
        "gate": {scoring[0]: draw(st.floats(-1e6, 0))},
        "monitor": {
            "max_drift": draw(st.floats(0, 1)),
            "min_scores": {scoring[0]: draw(st.floats(-1e6, 0))},
            "compare_by": draw(st.sampled_from(["weekday", "month"])),
        },
    }
    return {
        "registered_model_name": draw(names),
        "experiment_name": draw(names),
        "task": task,
        "spine": draw(identifiers),
        "label": draw(identifiers),
        "features": features,
        "split": {"test": draw(durations), "embargo": draw(durations)},
        "estimator": {
            "class_path": draw(st.sampled_from(names_of(ESTIMATORS, task))),
            "init_args": init_args,
        },
        "scoring": scoring,
        **{key: value for key, value in optional.items() if draw(st.booleans())},
    }


SCHEMA = jsonschema.Draft202012Validator(recipe_schema())


@given(recipes())
@settings(max_examples=50)
def test_what_is_dumped_loads_as_itself_and_fits_the_schema(folder, content):
    dumped = load(folder, json.dumps(content)).dump()
    assert load(folder, json.dumps(dumped)).dump() == dumped
    # Durations are dumped in their largest unit.
    durations = {"split", "preprocessing", "calibration", "decision_threshold", "tuning"}
    for key in content.keys() - durations:
        assert dumped[key] == content[key]
    SCHEMA.validate(content)
    SCHEMA.validate(dumped)


# Every key that a recipe may have, each on a line of its own.
WHOLE = [
    *LINES,
    "tuning:",
    "  n_trials: 9",
    "  timeout: 10m",
    "  search_space:",
    "    max_depth: {int: [2, 9], log: true}",
    "    max_features: {choice: [sqrt, 0.5]}",
    "calibration:",
    "  method: sigmoid",
    "  period: 14d",
    "decision_threshold:",
    "  maximize: f1",
    "  period: 14d",
    "min_shadow_days: 7",
    'slices: [category_id, "user_activity:orders_7d"]',
    'feature_overrides: ["user_activity:orders_7d"]',
    "request: [channel]",
    "on_missing_entity: {user_activity: null}",
    "asked_at: [hour]",
    "time_zone: Europe/Berlin",
    "derived:",
    "  orders_per_day: orders_7d / 7",
    "monitor:",
    "  max_drift: 0.2",
    "  min_scores: {roc_auc: 0.7}",
    "  max_missing: 0.05",
    "  max_age: 26h",
    "  max_skew: 0.01",
    "  compare_by: weekday",
]
LINE = st.integers(0, len(WHOLE) - 1)
VALUE = st.sampled_from(
    ["", "null", "true", "-1", "1e999", "x", "[]", "{}", "[1, {a: b}]", "{a: [b]}", "'", "*a", "7d"]
)


def spoil(changes):
    """Return the whole recipe with other values in these lines, as a file's content."""
    lines = [
        f"{line.partition(':')[0]}: {changes[i]}" if i in changes else line
        for i, line in enumerate(WHOLE)
    ]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


spoiled = st.dictionaries(LINE, VALUE | st.text(max_size=20), min_size=1, max_size=4).map(spoil)


@given(spoiled)
def test_a_spoiled_recipe_is_read_or_refused(folder, content):
    (folder / "rf.yaml").write_bytes(content)
    read_or_refused(folder)


def test_the_recipe_to_spoil_has_every_key(folder):
    recipe = load(folder, "\n".join(WHOLE))
    assert recipe.model_fields_set == Recipe.model_fields.keys()


@given(recipes(), st.data())
def test_a_recipe_with_any_value_anywhere_is_read_or_refused(folder, content, data):
    inside, depth = content, data.draw(st.integers(1, 4))
    while depth and isinstance(inside, dict | list) and inside:
        keys = list(inside) if isinstance(inside, dict) else range(len(inside))
        key = data.draw(st.sampled_from(keys))
        holder, inside, depth = inside, inside[key], depth - 1
    holder[key] = data.draw(arguments)
    (folder / "rf.yaml").write_text(json.dumps(content))
    read_or_refused(folder)


def read_or_refused(folder):
    try:
        load_recipe(folder / "rf.yaml").dump()
    except RunnerError as refused:
        problems = refused.message.replace(f"{folder}/", "").split("; rf.yaml:")
        assert all(re.match(r"(rf\.yaml:)?[1-9]\d*:[1-9]\d*: \S", each) for each in problems)


OF_THE_SCHEMA = [
    {4: "task: classify"},
    {1: None},
    {3: "descripton: x"},
    {7: "features: []"},
    {7: "features: []", 17: "request: []"},
    {17: "request: [a b]"},
    {17: "on_missing_entity: maybe"},
    {17: "on_missing_entity: {user_activity: maybe}"},
    {7: "features: [user_activity]"},
    {8: "split: {test: 28, embargo: 7d}"},
    {11: "  categorical: {min_frequency: 0}"},
    {13: "  class_path: os.system"},
    {15: "scoring: [log_loss]"},
    {16: "gate: {log_loss: 1}"},
    {17: "calibration: {method: platt, period: 14d}"},
    {17: "decision_threshold: {}"},
    {17: "decision_threshold: {value: 2}"},
    {17: "decision_threshold: {maximize: f1}"},
    {17: "decision_threshold: {maximize: roc_auc, period: 14d}"},
    {17: "slices: [category id]"},
    {17: "tuning: {n_trials: 9}"},
    {17: "tuning: {n_trials: 9, search_space: {max_depth: {int: [2]}}}"},
    {17: "tuning: {n_trials: 9, search_space: {max_depth: {log: true}}}"},
    {17: "tuning: {n_trials: 9, search_space: {max_depth: {int: [2, 9], choice: [2]}}}"},
]


@pytest.mark.parametrize("changes", OF_THE_SCHEMA)
def test_the_schema_refuses_what_one_key_shows_wrong(folder, changes):
    (folder / "x.yaml").write_text(recipe_text(changes))
    content = load_yaml(folder / "x.yaml").data
    with pytest.raises(jsonschema.ValidationError):
        SCHEMA.validate(content)


def test_the_published_schema_is_in_step():
    published = json.loads((ROOT / "schemas" / "recipe.schema.json").read_text())
    assert published == recipe_schema(), (
        "python -m runner.recipes.schema > schemas/recipe.schema.json"
    )


def keys(model: type[BaseModel], prefix: str = ""):
    """Yield each key's dotted path with its field, parts before what they hold."""
    for name, field in keys_of(model).items():
        yield f"{prefix}{name}", field
        if part := part_in(field.annotation):
            users_own = "*." if get_origin(field.annotation) is dict else ""
            yield from keys(part, f"{prefix}{name}.{users_own}")


@pytest.mark.parametrize(
    ("key", "field"), [pytest.param(*each, id=each[0]) for each in keys(Recipe)]
)
def test_every_key_is_described_in_the_schema_and_in_the_docs(key, field):
    assert field.description
    row = re.search(rf"^\| `{re.escape(key)}` \|.*$", DOCS, re.MULTILINE)
    assert row, f"docs/recipe.md has no row for {key}"
    default = row[0].split("|")[-2].strip()
    assert (default == "required") == field.is_required()
    if isinstance(field.default, str | int) and field.default:
        assert default == f"`{field.default}`"


def test_the_table_of_keys_is_made_from_the_schema(tmp_path):
    page = tmp_path / "recipe.md"
    page.write_text(DOCS.replace("| `label` | text |", "| `label` | by hand |"))
    assert page.read_text() != DOCS
    renew(page)
    assert page.read_text() == DOCS, "python -m runner.recipes.keys_table docs/recipe.md"
    assert DOCS.count(recipe_reference()) == 1


def test_the_docs_list_the_estimators_and_scorers_there_are():
    rows = re.findall(r"^\| `(.*)` \| (\w+) \| (yes|no) \| (yes|no) \|$", DOCS, re.MULTILINE)
    flags = {True: "yes", False: "no"}
    assert rows == [
        (each.class_path, each.task, flags[each.scaled], flags[each.onnx])
        for each in ESTIMATORS.values()
    ]
    for task in ("classification", "regression"):
        listed = re.search(rf"^For `{task}`: (.*?)\.", DOCS, re.MULTILINE | re.DOTALL)[1]
        assert re.findall(r"`(\w+)`", listed) == names_of(SCORERS, task)


def test_the_examples_in_the_docs_are_right_recipes(folder):
    examples = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    assert examples
    for example in examples:
        load(folder, example)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_of_this_repository_are_right(path):
    recipe = load_recipe(path)
    build_estimator(recipe)

"""A recipe is checked as a whole: every mistake at once, each with its place and what was meant."""

from __future__ import annotations

import pytest

from runner.errors import RunnerError
from tests.recipe_files import load, recipe_text, refusal

NAME = "expected up to 100 letters, digits, _, - and ., the first a letter or digit"
WORD = "expected a name of letters, digits and _"
EXAMPLE = "write a whole number and s, m, h or d, such as 7d"
SPACE = "search_space: {max_depth: {int: [2, 9]}}"

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
def test_a_wrong_recipe_is_reported_with_its_place_and_what_was_expected(
    tmp_path, changes, message
):
    assert refusal(tmp_path, recipe_text(changes)) == f"rf.yaml:{message}"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("monitor: {compare_by: }", "monitor.compare_by"),
        ("monitor:\n  max_drift:", "monitor.max_drift"),
        ("min_shadow_days:", "min_shadow_days"),
        (
            "tuning: {n_trials: 9, timeout: , search_space: {max_depth: {int: [2, 9]}}}",
            "tuning.timeout",
        ),
    ],
)
def test_an_optional_key_without_a_value_is_refused_and_null_is_not(tmp_path, line, told):
    with pytest.raises(RunnerError, match=f"{told}: expected a value, got nothing") as refused:
        load(tmp_path, recipe_text({17: line}))
    assert refused.value.hint.startswith("write a value, or delete the key; ")
    load(tmp_path, recipe_text({17: "min_shadow_days: null"}))


def test_every_mistake_is_reported_at_once_in_the_order_of_the_file(tmp_path):
    changes = {
        2: "experiment: x",
        4: "task: regression",
        7: 'features: ["a:*", b, "a:x"]',
        8: "split: {test: 0d, embargo: 7}",
        15: "scoring: [r2, roc_auc, rmse]",
        16: "gate: {r2: 2}",
    }
    assert refusal(tmp_path, recipe_text(changes)).split("; ") == [
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


def test_a_wrong_task_does_not_make_estimator_and_scorers_wrong(tmp_path):
    assert "; " not in refusal(tmp_path, recipe_text({4: "task: classify"}))


def test_wrong_scoring_does_not_make_the_gate_wrong(tmp_path):
    assert "gate" not in refusal(tmp_path, recipe_text({15: "scoring: [auc]"}))


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
def test_the_hint_says_what_to_do(tmp_path, changes, hint):
    with pytest.raises(RunnerError) as refused:
        load(tmp_path, recipe_text(changes))
    assert hint in refused.value.hint

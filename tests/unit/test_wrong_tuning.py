"""Mistakes in `tuning`, `calibration` and `decision_threshold`, each with its place."""

from __future__ import annotations

import pytest

from tests.recipe_files import recipe_text, refusal

SPACE = "search_space: {max_depth: {int: [2, 9]}}"
REGRESSION = {
    4: "task: regression",
    13: "  class_path: sklearn.linear_model.Ridge",
    14: None,
    15: "scoring: [r2]",
    16: None,
}
WRONG = [
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
                "max_depth.float: -1e+308 to 1e+308 is wider than a float can hold",
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
            "17:22: decision_threshold.maximize: 'recall' alone is best when every row, or hardly "
            "any, is predicted as the second class"
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
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_recipe_is_reported_with_its_place_and_what_was_expected(
    tmp_path, changes, message
):
    assert refusal(tmp_path, recipe_text(changes)) == f"rf.yaml:{message}"

"""A recipe has the values of its file, and the documented defaults."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from runner.recipes.arguments import build_estimator
from runner.recipes.recipe import load_recipe
from tests.recipe_files import load, recipe_text, refusal

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted([*ROOT.glob("recipes/*.yaml"), *ROOT.glob("examples/*/recipes/*.yaml")])


def test_every_key_has_its_value(tmp_path):
    recipe = load(tmp_path, recipe_text())
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


def test_what_may_be_left_out_has_the_documented_defaults(tmp_path):
    left_out = {3: None, 9: None, 10: None, 11: None, 14: None, 16: None}
    dumped = load(tmp_path, recipe_text(left_out)).dump()
    assert dumped["description"] == ""
    assert dumped["preprocessing"] == {
        "numeric": {"impute": "median", "add_indicator": False, "scale": "auto"},
        "categorical": {"encode": "onehot", "min_frequency": 20},
    }
    assert dumped["estimator"]["init_args"] == {}
    assert dumped["gate"] == {}


def test_a_part_of_preprocessing_leaves_the_other_parts_at_their_defaults(tmp_path):
    recipe = load(tmp_path, recipe_text({10: "  numeric: {impute: zero}", 11: None}))
    assert recipe.preprocessing.numeric.impute == "zero"
    assert recipe.preprocessing.numeric.scale == "auto"
    assert recipe.preprocessing.categorical.min_frequency == 20


def test_a_recipe_knows_its_file_and_text(tmp_path):
    recipe = load(tmp_path, recipe_text())
    assert recipe.path == tmp_path / "rf.yaml"
    assert recipe.name == "rf"
    assert recipe.source.text == recipe_text()


def test_an_error_about_a_value_names_its_place(tmp_path):
    recipe = load(tmp_path, recipe_text())
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


def test_tuning_has_its_values_and_the_documented_defaults(tmp_path):
    tuning = load(tmp_path, recipe_text() + TUNING).tuning
    assert (tuning.n_trials, tuning.timeout) == (30, timedelta(minutes=10))
    assert (tuning.folds, tuning.seed) == (3, 0)
    assert [(each.kind, each.values) for each in tuning.search_space.values()] == [
        ("choice", (None, 8)),
        ("int", (5, 200)),
        ("float", (0.0, 1.0)),
    ]


def test_a_dumped_distribution_has_the_keys_of_its_kind(tmp_path):
    dumped = load(tmp_path, recipe_text() + TUNING).dump()["tuning"]["search_space"]
    assert dumped == {
        "max_depth": {"choice": [None, 8]},
        "min_samples_leaf": {"int": [5, 200], "log": True, "step": 1},
        "max_features": {"float": [0.0, 1.0], "log": False},
    }


def test_parts_that_are_not_there_are_dumped_as_not_there(tmp_path):
    recipe = load(tmp_path, recipe_text())
    assert (recipe.tuning, recipe.calibration, recipe.decision_threshold) == (None, None, None)
    assert recipe.slices == recipe.feature_overrides == ()
    assert not {"tuning", "calibration", "decision_threshold"} & recipe.dump().keys()


def test_a_fixed_threshold_is_dumped_without_the_keys_of_a_chosen_one(tmp_path):
    fixed = load(tmp_path, recipe_text({17: "decision_threshold: {value: 0.3}"}))
    assert fixed.dump()["decision_threshold"] == {"value": 0.3}
    chosen = load(tmp_path, recipe_text({17: "decision_threshold: {maximize: f1, period: 336h}"}))
    assert chosen.dump()["decision_threshold"] == {"maximize": "f1", "period": "14d"}


def test_arguments_are_added_to_a_copy(tmp_path):
    recipe = load(tmp_path, recipe_text())
    changed = recipe.with_arguments({"max_depth": 3, "n_estimators": 9})
    assert changed.estimator.init_args == {"max_depth": 3, "n_estimators": 9, "random_state": 0}
    assert recipe.estimator.init_args == {"n_estimators": 200, "random_state": 0}
    assert changed.source is recipe.source


def test_a_recipe_does_not_change(tmp_path):
    recipe = load(tmp_path, recipe_text())
    with pytest.raises(ValidationError, match="frozen"):
        recipe.label = "other"
    with pytest.raises(ValidationError, match="frozen"):
        recipe.split.test = timedelta(0)


def test_no_dotted_path_of_a_recipe_is_imported(tmp_path, monkeypatch):
    (tmp_path / "intruder.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "not on the list" in refusal(tmp_path, recipe_text({13: "  class_path: intruder.Model"}))
    assert "intruder" not in sys.modules


def test_reading_a_recipe_does_not_wait_for_scikit_learn():
    code = (
        "import runner.recipes.recipe, sys; "
        "print(*{'sklearn', 'numpy', 'pandas', 'feast', 'mlflow', 'optuna'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_of_this_repository_are_right(path):
    recipe = load_recipe(path)
    build_estimator(recipe)

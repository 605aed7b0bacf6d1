"""A recipe to break: `recipe_text` returns it with some lines changed, `load` reads it."""

from __future__ import annotations

import pytest

from runner.errors import RunnerError
from runner.recipes.recipe import load_recipe

# Line 1 is the first below; the tests' messages count on it.
LINES = """\
registered_model_name: category_purchase_rf
experiment_name: category_purchase
description: Will a user order in a category within 7 days?
task: classification
spine: spine_category_purchase
label: is_purchase_7d
features: ["user_demographics:*", "user_activity:orders_7d"]
split: {test: 28d, embargo: 7d}
preprocessing:
  numeric: {impute: median, scale: auto}
  categorical: {encode: onehot, min_frequency: 20}
estimator:
  class_path: sklearn.ensemble.RandomForestClassifier
  init_args: {n_estimators: 200, random_state: 0}
scoring: [roc_auc, neg_log_loss]
gate: {roc_auc: 0.70}
""".splitlines()


def recipe_text(changes: dict[int, str | None] | None = None) -> str:
    """Return the recipe with the lines of these numbers replaced, or deleted where None."""
    lines = dict(enumerate(LINES, start=1)) | (changes or {})
    return "".join(f"{line}\n" for line in lines.values() if line is not None)


def load(folder, text):
    path = folder / "rf.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path)


def refusal(folder, text):
    with pytest.raises(RunnerError) as refused:
        load(folder, text)
    assert refused.value.hint
    return refused.value.message.replace(f"{folder}/", "")

"""What is wrong with training rows is told before a model is fitted: classes, numbers too large."""

import dataclasses
import functools
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from runner.commands.predictions.prediction import _refuse_too_large
from runner.errors import RunnerError
from runner.modelling.classes import class_warnings
from runner.modelling.training_data import load_training_data, split_labels
from tests.modelling import FEATURES, REGRESSOR, SPINE, make_recipe
from tests.trainings import START
from tests.trainings import training_data as made_up

Y_SPINE = dataclasses.replace(SPINE, labels={"y": timedelta(0)})
TUNED = "tuning: {search_space: {max_depth: {int: [2, 5]}}, folds: 2, n_trials: 1}\n"


@pytest.fixture
def recipe(tmp_path):
    return functools.partial(make_recipe, tmp_path / "recipe.yaml")


def labelled(train, test):
    """Return rows of an hour each with these labels, the last of them in the 4 days that test."""
    times = [START + timedelta(hours=n) for n in range(len(train))]
    times += [START + timedelta(days=90, hours=n) for n in range(len(test))]
    stamps = pa.array(times, pa.timestamp("us", "UTC"))
    return pa.table({"event_timestamp": stamps, "y": pa.array([*train, *test])})


GONE, NEW = ([1, 2, 4] * 30, [1, 2] * 30), ([1, 2] * 30, [1, 2, 4] * 20)
ONLY_TRAIN = "label y is 4 in 30 training rows and in no test row"
ONLY_TEST = "label y is 4 in 20 test rows and in no training row"


@pytest.mark.parametrize(
    ("scoring", "parts", "told"),
    [
        ("roc_auc_ovr", GONE, f"{ONLY_TRAIN}: roc_auc_ovr cannot be scored"),
        ("accuracy, neg_log_loss", NEW, f"{ONLY_TEST}: neg_log_loss cannot be scored"),
        ("f1", NEW, "label y has 3 classes; f1 is for two"),
    ],
)
def test_a_class_of_one_side_is_refused_where_a_score_needs_both(recipe, scoring, parts, told):
    with pytest.raises(RunnerError, match=told) as refused:
        split_labels(recipe(scoring=scoring), Y_SPINE, labelled(*parts))
    assert "scoring: " in refused.value.message


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (GONE, f"{ONLY_TRAIN}: no score shows it"),
        (NEW, f"{ONLY_TEST}: the model never predicts it"),
    ],
)
def test_a_class_of_one_side_is_a_warning_where_labels_are_scored(recipe, parts, told):
    chosen = recipe(scoring="accuracy")
    assert class_warnings(chosen, split_labels(chosen, Y_SPINE, labelled(*parts))) == [told]


def test_a_class_that_a_fold_of_tuning_lacks_is_refused_before_the_join(recipe):
    train = [1, 2] * 60 + [1, 2, 4] * 20  # three periods: the last validates what has no 4
    rows = labelled(train, [1, 2, 4] * 20)
    with pytest.raises(RunnerError, match=r"tuning.folds: fold 2 of 2: label y is 4 in 20 vali"):
        split_labels(recipe(scoring="neg_log_loss", more=TUNED), Y_SPINE, rows)
    split_labels(recipe(scoring="accuracy", more=TUNED), Y_SPINE, rows)


def joined(**changes):
    """Return the made-up rows, with other values in the first rows of a column."""
    table = made_up().table
    for name, values in changes.items():
        column = [*values, *table[name].to_pylist()[len(values) :]]
        table = table.set_column(table.column_names.index(name), name, pa.array(column))
    return table


@pytest.mark.parametrize("value", [1e39, -1e39, np.inf, -np.inf, 1.7e308])
def test_a_number_beyond_float32_names_its_feature_and_the_largest(recipe, value):
    table = joined(activity__value=[5.0, value, np.nan, value / 1.0])
    with pytest.raises(RunnerError) as refused:
        load_training_data(table, recipe(), Y_SPINE, FEATURES, [])
    assert refused.value.message.endswith(
        "features: activity:value is not between -3.4e+38 and 3.4e+38 in 2 of 400 rows, "
        f"the largest is {value:g}"
    )
    assert refused.value.hint == "cap it in the feature mart's SQL, or make it null there"


def test_nan_is_missing_and_float32_s_own_largest_number_is_taken(recipe):
    table = joined(activity__value=[np.nan, float(np.finfo(np.float32).max)])
    loaded = load_training_data(table, recipe(), Y_SPINE, FEATURES, [])
    assert np.isnan(loaded.train.X["activity__value"][0])


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_an_infinite_label_names_the_spine(recipe, value):
    times = pa.array([START + timedelta(days=n) for n in range(9)], pa.timestamp("us", "UTC"))
    rows = pa.table({"event_timestamp": times, "y": pa.array([1.0] * 8 + [value])})
    with pytest.raises(RunnerError, match=r"spine_y\.y is infinite or NaN in 1 of 9 rows"):
        split_labels(recipe(REGRESSOR, "r2", "regression"), Y_SPINE, rows)


def test_a_batch_of_rows_to_predict_is_held_to_the_same_rule():
    feature = SimpleNamespace(name="m__f1", projection="m", feature="f1", dtype="float64")
    model = SimpleNamespace(
        bundle=SimpleNamespace(features=[feature], row_dtypes={"m__f1": "float64"})
    )
    batch = pa.record_batch({"m__f1": pa.array([1.0, np.inf, None, -1e300])})
    _refuse_too_large(model, batch.slice(2, 1), before=0)
    with pytest.raises(RunnerError) as refused:
        _refuse_too_large(model, batch, before=1_000)
    assert refused.value.message == (
        "m:f1 is not between -3.4e+38 and 3.4e+38 in 2 of the rows 1,001 to 1,004, "
        "the largest is inf"
    )

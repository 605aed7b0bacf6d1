"""Intervals of scores, and of the difference between two models on the same rows."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from contract.predictions import Predictions
from runner.modelling.bootstrap import (
    paired_interval,
    predicted,
    score_interval,
)


def model(scores):
    """Return a stand-in for a binary classifier that gives these scores to class 1."""
    both = np.column_stack([1 - scores, scores])
    return predicted(Predictions((scores > 0.5).astype(np.int64), both), [0, 1])


@pytest.fixture
def rows():
    """Return labels, good scores, and scores that are worse by a lot of noise."""
    random = np.random.default_rng(3)
    y = random.integers(0, 2, 600)
    good = np.clip(0.3 + 0.4 * y + random.normal(0, 0.2, 600), 0, 1)
    return y, good, np.clip(good + random.normal(0, 0.6, 600), 0, 1)


def test_the_interval_holds_the_score_itself(rows):
    y, good, _ = rows
    interval = score_interval("roc_auc", model(good), y, np.arange(600))
    assert interval.value == pytest.approx(roc_auc_score(y, good))
    assert interval.low < interval.value < interval.high


def test_the_interval_is_as_wide_as_the_normal_approximation_says():
    y = np.random.default_rng(0).integers(0, 2, 4000)
    right = np.where(np.random.default_rng(1).random(4000) < 0.8, y, 1 - y).astype(float)
    interval = score_interval("accuracy", model(right), y, np.arange(4000))
    expected = 2 * 1.96 * np.sqrt(0.8 * 0.2 / 4000)
    assert interval.high - interval.low == pytest.approx(expected, rel=0.15)


def test_rows_of_one_entity_count_as_one(rows):
    y, good, _ = rows
    alone = score_interval("roc_auc", model(good), y, np.arange(600))
    copies = np.repeat(np.arange(600), 4)
    fourfold = score_interval("roc_auc", model(good[copies]), y[copies], copies)
    assert (fourfold.low, fourfold.high) == pytest.approx((alone.low, alone.high))


def test_a_better_model_is_better_and_a_worse_one_is_not(rows):
    y, good, bad = rows
    assert paired_interval("roc_auc", model(good), model(bad), y, np.arange(600)).low > 0
    assert paired_interval("roc_auc", model(bad), model(good), y, np.arange(600)).high < 0


@pytest.mark.parametrize("scorer", ["roc_auc", "neg_log_loss", "matthews_corrcoef"])
def test_the_same_model_differs_by_exactly_nothing(rows, scorer):
    y, good, _ = rows
    interval = paired_interval(scorer, model(good), model(good.copy()), y, np.arange(600))
    assert (interval.value, interval.low, interval.high) == (0, 0, 0)


def test_noise_is_seldom_taken_for_better():
    """Two models of equal worth: the interval is above 0 in some 2.5 % of the cases."""
    taken = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        y = random.integers(0, 2, 200)
        one, two = (np.clip(0.4 + 0.2 * y + random.normal(0, 0.2, 200), 0, 1) for _ in range(2))
        taken += paired_interval("accuracy", model(one), model(two), y, np.arange(200)).low > 0
    assert taken <= 4


def test_resamples_without_both_classes_are_left_out():
    y = np.array([1] + [0] * 9)
    interval = score_interval("roc_auc", model(np.linspace(1, 0, 10)), y, np.arange(10))
    assert (interval.value, interval.low, interval.high) == (1, 1, 1)


def test_rows_of_one_class_cannot_be_scored():
    with pytest.warns(match="Only one class"), pytest.raises(ValueError, match="roc_auc is nan"):
        score_interval("roc_auc", model(np.linspace(0, 1, 9)), np.zeros(9, int), np.arange(9))


def test_a_regression_is_scored_by_its_values():
    y = np.arange(50.0)
    values = predicted(Predictions(y + 1, None), None)
    interval = score_interval("neg_mean_absolute_error", values, y, np.arange(50))
    assert (interval.value, interval.low, interval.high) == (-1, -1, -1)

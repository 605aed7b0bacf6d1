"""Scores of resamples from how often each row was drawn, against scikit-learn's on the rows."""

import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import get_scorer

from contract.predictions import Predictions
from runner.modelling.bootstrap import predicted, row_counts
from runner.modelling.resampled_scores import resampled_score
from runner.recipes.estimators import SCORERS, names_of

CLASSIFICATION = names_of(SCORERS, "classification")
OF_TWO = {"f1", "jaccard", "precision", "recall", "roc_auc", "average_precision"}
OF_SEVERAL = [name for name in CLASSIFICATION if name not in OF_TWO - {"average_precision"}]
REGRESSION = names_of(SCORERS, "regression")
RESAMPLES = 3


def by_scikit_learn(scorer, model, y, counts):
    """Return scikit-learn's score of the rows that were drawn, NaN where it has none."""
    rows = np.repeat(np.arange(len(y)), counts.astype(int))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class that is predicted, but was not drawn
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        warnings.filterwarnings("error", "No positive class found")
        try:
            return float(get_scorer(scorer)(model, rows, y[rows]))
        except (ValueError, UserWarning):  # its words for "a class is missing"
            return float("nan")


def assert_equal(scorer, model, y, entities):
    every = np.ones(len(y))
    assume(np.isfinite(by_scikit_learn(scorer, model, y, every)))
    groups = np.unique(entities, return_inverse=True)[1]
    score = resampled_score(scorer, model, y)
    drawn = [every, *row_counts(groups, RESAMPLES)]
    said = [score(counts) for counts in drawn]
    expected = [by_scikit_learn(scorer, model, y, counts) for counts in drawn]
    np.testing.assert_allclose(said, expected, rtol=1e-12, atol=1e-14)


def rows_of(count):
    """Give (labels, votes for each class, entities) of the same few rows, ties among them."""
    return st.integers(count, 12).flatmap(
        lambda n: st.tuples(
            arrays(np.int64, n, elements=st.integers(0, count - 1)),
            arrays(np.int64, (n, count), elements=st.integers(0, 3)),
            arrays(np.int64, n, elements=st.integers(0, 4)),
        )
    )


def model_of(votes, names):
    """Return a model whose float32 probabilities are the shares of votes."""
    votes = votes + (votes.sum(axis=1, keepdims=True) == 0)
    shares = (votes / votes.sum(axis=1, keepdims=True)).astype(np.float32)
    return predicted(Predictions(np.array(names)[shares.argmax(axis=1)], shares), names)


@pytest.mark.parametrize("scorer", CLASSIFICATION)
@settings(max_examples=8)
@given(rows_of(2))
def test_two_classes_are_scored_as_by_scikit_learn(scorer, drawn):
    y, votes, entities = drawn
    assert_equal(scorer, model_of(votes, [0, 1]), y, entities)


@pytest.mark.parametrize("scorer", OF_SEVERAL)
@settings(max_examples=8)
@given(st.integers(3, 4).flatmap(rows_of))
def test_several_classes_are_scored_as_by_scikit_learn(scorer, drawn):
    y, votes, entities = drawn
    assert_equal(scorer, model_of(votes, list(range(votes.shape[1]))), y, entities)


@pytest.mark.parametrize("scorer", ["f1_macro", "matthews_corrcoef", "roc_auc_ovo", "neg_log_loss"])
@settings(max_examples=8)
@given(rows_of(3))
def test_classes_may_have_names_and_a_label_be_unknown_to_the_model(scorer, drawn):
    y, votes, entities = drawn
    names = ["blue", "green", "red"]
    labels = np.array([*names[:2], "violet" if "f1" in scorer else "red"], dtype=object)[y]
    assert_equal(scorer, model_of(votes, names), labels, entities)


@pytest.mark.parametrize("scorer", REGRESSION)
@settings(max_examples=8)
@given(rows_of(2))
def test_a_regression_is_scored_as_by_scikit_learn(scorer, drawn):
    y, votes, entities = drawn
    y = (3 * votes[:, 0] + y + 1).astype(np.float64)
    values = Predictions((votes[:, 1] + 0.5).astype(np.float32), None)
    assert_equal(scorer, predicted(values, None), y, entities)


def test_an_entitys_rows_are_drawn_together_and_always_the_same():
    groups = np.array([0, 1, 0, 2, 1, 0])
    first, second = (np.array(list(row_counts(groups, 7))) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    for drawn in first:
        assert drawn[0] == drawn[2] == drawn[5]
        assert drawn[1] == drawn[4]
        assert drawn[[0, 1, 3]].sum() == 3

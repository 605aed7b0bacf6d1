"""Scores of resamples from how often each row was drawn, against scikit-learn's on the rows."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from contract.scoring import Predictions
from runner.modelling import bootstrap
from runner.modelling.bootstrap import predicted, resamples, row_counts
from runner.modelling.resampled_scores import (
    _OF_LABELS,
    _OF_SHARES,
    _OF_VALUES,
    resampled_score,
)

CLASSIFICATION = [*_OF_LABELS, *_OF_SHARES]


def by_rows(scorer, model, y, groups, count):
    """Return scikit-learn's score of each resample, NaN where it has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class that is predicted, but was not drawn
        return [bootstrap._score(scorer, model, y, rows) for rows in resamples(groups, count)]


def by_counts(scorer, model, y, groups, count):
    score = resampled_score(scorer, model, y)
    return np.concatenate([score(counts) for counts in row_counts(groups, count)])


def columns(values):
    """Give (labels, predictions, entities) of the same few rows, ties among them."""
    rows = st.integers(2, 12)
    return rows.flatmap(
        lambda n: st.tuples(
            arrays(np.int64, n, elements=values),
            arrays(np.int64, n, elements=st.integers(0, 5)),
            arrays(np.int64, n, elements=st.integers(0, 4)),
        )
    )


@pytest.mark.parametrize("scorer", CLASSIFICATION)
@settings(max_examples=30)
@given(columns(st.integers(0, 1)))
def test_a_classification_is_scored_as_by_scikit_learn(scorer, drawn):
    y, fifths, entities = drawn
    share = (fifths / 5).astype(np.float32)
    predictions = Predictions((share > 0.5).astype(np.int64), np.column_stack([1 - share, share]))
    rows = predicted(predictions, [0, 1]), y, np.unique(entities, return_inverse=True)[1]
    expected = by_rows(scorer, *rows, 6)
    np.testing.assert_allclose(by_counts(scorer, *rows, 6), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("scorer", _OF_VALUES)
@settings(max_examples=30)
@given(columns(st.integers(-3, 3)))
def test_a_regression_is_scored_as_by_scikit_learn(scorer, drawn):
    y, said, entities = drawn
    model = predicted(Predictions(said.astype(np.float32), None), None)
    rows = model, y.astype(np.float64), np.unique(entities, return_inverse=True)[1]
    expected = by_rows(scorer, *rows, 6)
    np.testing.assert_allclose(by_counts(scorer, *rows, 6), expected, rtol=1e-12, atol=1e-14)


def test_what_only_scikit_learn_can_score_is_left_to_it():
    shares = np.full((4, 2), 0.5)
    named = predicted(Predictions(np.array(["a", "b"] * 2), shares), ["a", "b"])
    assert resampled_score("roc_auc", named, np.array(["a", "b"] * 2)) is None
    numbered = predicted(Predictions(np.array([0, 1] * 2), shares), [0, 1])
    assert resampled_score("roc_auc", numbered, np.array([0, 1, 2, 1])) is None
    assert resampled_score("matthews_corrcoef", numbered, np.array([0, 1] * 2)) is None
    values = predicted(Predictions(np.arange(4.0), None), None)
    assert resampled_score("neg_max_error", values, np.arange(4.0)) is None


def test_counts_are_those_of_the_resamples_however_many_come_at_a_time(monkeypatch):
    groups = np.array([0, 1, 0, 2, 1, 0])
    monkeypatch.setattr(bootstrap, "_COUNTS_AT_ONCE", 20)
    blocks = list(row_counts(groups, 7))
    assert [len(block) for block in blocks] == [3, 3, 1]
    expected = [np.bincount(rows, minlength=6) for rows in resamples(groups, 7)]
    np.testing.assert_array_equal(np.concatenate(blocks), expected)

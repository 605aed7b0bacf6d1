"""Cross-validation by time: what validates a fold is later than what trained it."""

import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import RunnerError
from runner.modelling.folds import time_folds

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)


def stamps(days):
    return pa.chunked_array([pa.array([START + d * DAY for d in days], pa.timestamp("us", "UTC"))])


def parts(folds):
    return [
        (np.flatnonzero(f.train).tolist(), np.flatnonzero(f.validation).tolist()) for f in folds
    ]


def test_each_period_but_the_first_validates_what_the_rows_before_it_trained():
    assert parts(time_folds(stamps(range(8)), count=3, embargo=timedelta(0))) == [
        ([0, 1], [2, 3]),
        ([0, 1, 2, 3], [4, 5]),
        ([0, 1, 2, 3, 4, 5], [6, 7]),
    ]


def test_the_embargo_keeps_rows_before_the_validation_period_out():
    assert parts(time_folds(stamps(range(8)), count=1, embargo=DAY)) == [([0, 1, 2], [4, 5, 6, 7])]


def test_rows_of_one_timestamp_stay_together():
    assert parts(time_folds(stamps([2, 1, 1, 1, 1, 0]), count=1, embargo=timedelta(0))) == [
        ([5], [0, 1, 2, 3, 4])
    ]


@given(st.lists(st.integers(0, 60), min_size=2, max_size=60), st.integers(1, 6), st.integers(0, 10))
def test_no_training_row_is_within_the_embargo_of_the_validation_period(days, count, embargo):
    try:
        folds = time_folds(stamps(days), count=count, embargo=embargo * DAY)
    except RunnerError:
        # By an oracle of its own: too few timestamps, or nothing old enough before a period.
        ordered = sorted(days)
        starts = [ordered[len(days) * i // (count + 1)] for i in range(1, count + 1)]
        assert len(set(starts)) < count or min(days) + embargo >= starts[0]
        return
    array = np.array(days)
    assert len(folds) == count
    for fold in folds:
        assert array[fold.train].max() + embargo < array[fold.validation].min()
        kept_out = ~fold.train & (array < array[fold.validation].min())
        assert (array[kept_out] + embargo >= array[fold.validation].min()).all()
    for earlier, later in itertools.pairwise(folds):
        assert array[earlier.validation].max() < array[later.validation].min()
        assert (earlier.train <= later.train).all()
    validated = np.sum([fold.validation for fold in folds], axis=0)
    assert validated.max() == 1
    assert validated[array == array.max()].all()


@pytest.mark.parametrize(
    ("days", "embargo", "problem"),
    [
        ([0, 0, 0, 9], 0, "fold 1 of 3 has no validation row: 4 rows of 2 timestamps, embargo 0s"),
        ([0, 1, 1, 1, 1, 1], 0, "fold 1 of 3 has no validation row: 6 rows of 2 timestamps"),
        (range(8), 3, "fold 1 of 3 has no training row: 8 rows of 8 timestamps, embargo 3d"),
    ],
)
def test_folds_without_rows_are_refused(days, embargo, problem):
    with pytest.raises(RunnerError) as refused:
        time_folds(stamps(days), count=3, embargo=embargo * DAY)
    assert problem in refused.value.message
    assert refused.value.hint == "set tuning.folds lower, or make the spine longer"

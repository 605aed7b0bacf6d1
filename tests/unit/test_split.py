"""Split by time, with an embargo as long as the label window."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import RunnerError
from runner.modelling.split import TooFewRowsError, split_by_time

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)


def stamps(days):
    return pa.chunked_array([pa.array([START + d * DAY for d in days], pa.timestamp("us", "UTC"))])


def test_newest_rows_test_and_rows_before_the_embargo_train():
    split = split_by_time(stamps(range(30)), test=7 * DAY, embargo=3 * DAY, label_window=3 * DAY)
    assert np.flatnonzero(split.test).tolist() == list(range(23, 30))
    assert np.flatnonzero(split.train).tolist() == list(range(20))
    assert split.embargoed == 3


def test_calibration_and_validation_lie_before_the_test_period_each_with_an_embargo_after_it():
    periods = {"test": 7 * DAY, "validation": 3 * DAY, "calibration": 2 * DAY}
    split = split_by_time(stamps(range(30)), embargo=3 * DAY, label_window=3 * DAY, **periods)
    assert np.flatnonzero(split.test).tolist() == list(range(23, 30))
    assert np.flatnonzero(split.validation).tolist() == [17, 18, 19]
    assert np.flatnonzero(split.calibration).tolist() == [12, 13]
    assert np.flatnonzero(split.train).tolist() == list(range(9))
    assert split.train_until == START + 8 * DAY
    assert split.embargoed == 9


def test_a_period_with_too_few_rows_is_named_with_the_rows_of_all():
    days = [0, 1, 2, *range(20, 30)]
    periods = {"test": 7 * DAY, "validation": 3 * DAY, "embargo": DAY, "label_window": DAY}
    with pytest.raises(TooFewRowsError) as refused:
        split_by_time(stamps(days), calibration=5 * DAY, **periods)
    assert refused.value.part == "calibration"
    assert str(refused.value) == (
        "leaves 3 training, 0 calibration, 2 validation, 7 test rows: the spine's 13 rows are from "
        "2026-01-01 00:00 to 2026-01-30 00:00 UTC, divided into training, calibration 5d, "
        "validation 3d, test 7d, with an embargo of 1d between"
    )


@given(
    st.lists(st.integers(0, 60), min_size=2),
    st.integers(1, 20),
    st.integers(0, 10),
    st.integers(0, 10),
)
def test_no_training_label_is_decided_inside_the_test_period(days, test, extra, window):
    embargo = (window + extra) * DAY
    array = np.array(days)
    trained = (array <= array.max() - test - window - extra).sum()
    tested = (array > array.max() - test).sum()
    given = {"test": test * DAY, "embargo": embargo, "label_window": window * DAY}
    if min(trained, tested) < 2:
        with pytest.raises(TooFewRowsError):
            split_by_time(stamps(days), **given)
        return
    split = split_by_time(stamps(days), **given)
    assert (split.train.sum(), split.test.sum()) == (trained, tested)
    assert not (split.train & split.test).any()
    assert array[split.train].max() + window < array[split.test].min()
    assert split.train.sum() + split.test.sum() + split.embargoed == len(days)


def test_an_embargo_shorter_than_the_label_window_is_refused():
    with pytest.raises(RunnerError, match="2d is shorter than the label window of 7d") as refused:
        split_by_time(stamps(range(30)), test=7 * DAY, embargo=2 * DAY, label_window=7 * DAY)
    assert "7d or more" in refused.value.hint


def test_a_spine_too_short_for_the_test_period_is_refused():
    with pytest.raises(TooFewRowsError, match="leaves 0 training, 5 test rows: the spine's 5 rows"):
        split_by_time(stamps(range(5)), test=7 * DAY, embargo=DAY, label_window=DAY)

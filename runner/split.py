"""Split by time: the newest rows test the model, and an embargo keeps label windows apart."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from runner.duration import format_duration
from runner.errors import RunnerError

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TimeSplit:
    """Which rows train and which test the model.

    Attributes
    ----------
    train, test
        Boolean masks of shape (n_rows,). Rows in neither are embargoed: their label window would
        reach into the test period.
    train_until, test_from
        The last timestamp that trains and the time after which rows test, in UTC.
    """

    train: Mask
    test: Mask
    train_until: datetime
    test_from: datetime

    @property
    def embargoed(self) -> int:
        """How many rows are used for neither."""
        return int((~(self.train | self.test)).sum())


def split_by_time(
    timestamps: pa.ChunkedArray, *, test: timedelta, embargo: timedelta, label_window: timedelta
) -> TimeSplit:
    """Return the split of rows at `timestamps` (UTC, no nulls).

    With `last` the newest timestamp, rows later than `last - test` test the model; rows up to
    `last - test - embargo` train it.

    Raises
    ------
    RunnerError
        If the embargo is shorter than the label window (a training label would be decided inside
        the test period), or either part is empty.
    """
    if embargo < label_window:
        raise RunnerError(
            f"split.embargo: {format_duration(embargo)} is shorter than the label window of "
            f"{format_duration(label_window)}: training labels would reach into the test period",
            hint=f"set split.embargo to {format_duration(label_window)} or more",
        )
    first, last = pc.min_max(timestamps).values()
    test_from = last.as_py() - test
    train_until = test_from - embargo
    is_test = _mask(pc.greater(timestamps, test_from))
    is_train = _mask(pc.less_equal(timestamps, train_until))
    if not is_train.any():
        raise RunnerError(
            f"split: no training row: the spine spans {first.as_py():%Y-%m-%d} to "
            f"{last.as_py():%Y-%m-%d}, and test {format_duration(test)} plus embargo "
            f"{format_duration(embargo)} leave nothing before",
            hint="make split.test shorter, or the spine longer",
        )
    return TimeSplit(is_train, is_test, train_until, test_from)


def _mask(column: pa.ChunkedArray) -> Mask:
    return np.asarray(column.to_numpy(), dtype=np.bool_)

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

_LEAST_ROWS = 2  # what is said of one row holds for no other
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TimeSplit:
    """Which rows train, calibrate, validate and test the model, in the order of time.

    Attributes
    ----------
    train, test, calibration, validation
        Boolean masks of shape (n_rows,); `calibration` and `validation` are None without such a
        period. Rows in none are embargoed: their label window would reach into the next period.
    train_until, test_from
        The last timestamp that trains and the time after which rows test, in UTC.
    """

    train: Mask
    test: Mask
    train_until: datetime
    test_from: datetime
    calibration: Mask | None = None
    validation: Mask | None = None

    @property
    def parts(self) -> dict[str, Mask]:
        """The masks by what their rows are for, in the order of time."""
        parts = {
            "training": self.train,
            "calibration": self.calibration,
            "validation": self.validation,
            "test": self.test,
        }
        return {name: mask for name, mask in parts.items() if mask is not None}

    @property
    def embargoed(self) -> int:
        """How many rows are used for nothing."""
        return len(self.train) - sum(int(mask.sum()) for mask in self.parts.values())


class TooFewRowsError(Exception):
    """A part of the split has fewer than two rows; the message says how many each part has."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(message)
        self.part = part


def split_by_time(
    timestamps: pa.ChunkedArray,
    *,
    test: timedelta,
    embargo: timedelta,
    label_window: timedelta,
    calibration: timedelta | None = None,
    validation: timedelta | None = None,
) -> TimeSplit:
    """Return the split of rows at `timestamps` (UTC, no nulls).

    With `last` the newest timestamp, rows later than `last - test` test the model. Before them lie,
    each period with an embargo after it, the validation rows, the calibration rows and the rows
    that train.

    Raises
    ------
    RunnerError
        If the embargo is shorter than the label window: a training label would be decided inside
        the test period.
    TooFewRowsError
        If a part has no row, or one only.
    """
    if embargo < label_window:
        raise RunnerError(
            f"split.embargo: {format_duration(embargo)} is shorter than the label window of "
            f"{format_duration(label_window)}: training labels would reach into the test period",
            hint=f"set split.embargo to {format_duration(label_window)} or more",
        )
    first, last = (time.as_py() for time in pc.min_max(timestamps).values())
    test_from = until = last - test
    until -= embargo
    parts: dict[str, Mask | None] = {"validation": None, "calibration": None}
    for name, period in (("validation", validation), ("calibration", calibration)):
        if period is not None:
            parts[name] = _between(timestamps, until - period, until)
            until -= period + embargo
    is_test = _mask(pc.greater(timestamps, test_from))
    is_train = _mask(pc.less_equal(timestamps, until))
    periods = {"calibration": calibration, "validation": validation, "test": test}
    split = TimeSplit(is_train, is_test, until, test_from, **parts)
    rows = {name: int(mask.sum()) for name, mask in split.parts.items()}
    for part, count in rows.items():
        if count < _LEAST_ROWS:
            counts = ", ".join(f"{count:,} {name}" for name, count in rows.items())
            taken = ", ".join(f"{name} {format_duration(p)}" for name, p in periods.items() if p)
            raise TooFewRowsError(
                part,
                f"leaves {counts} rows: the spine's {len(timestamps):,} rows are from "
                f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC, divided into training, "
                f"{taken}, with an embargo of {format_duration(embargo)} between",
            )
    return split


def _between(timestamps: pa.ChunkedArray, after: datetime, until: datetime) -> Mask:
    return _mask(pc.and_(pc.greater(timestamps, after), pc.less_equal(timestamps, until)))


def _mask(column: pa.ChunkedArray) -> Mask:
    return np.asarray(column.to_numpy(), dtype=np.bool_)

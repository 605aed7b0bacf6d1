"""Cross-validation by time, inside the training rows: every validation row is in the future."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from runner.duration import format_duration
from runner.errors import RunnerError


@dataclass(frozen=True)
class Fold:
    """Which of the training rows train and which validate in one fold.

    Attributes
    ----------
    train, validation
        Boolean masks of shape (n_train_rows,). Rows in neither are later than the fold, or their
        label window would reach into its validation period.
    """

    train: npt.NDArray[np.bool_]
    validation: npt.NDArray[np.bool_]


def time_folds(timestamps: pa.ChunkedArray, *, count: int, embargo: timedelta) -> list[Fold]:
    """Return `count` folds of rows at `timestamps` (UTC, no nulls), the earliest first.

    The rows, in the order of time, are cut into `count + 1` periods of about as many rows each;
    rows of one timestamp stay together. Each period but the first validates a fold, which the rows
    earlier than its first timestamp by more than the embargo train.

    Raises
    ------
    RunnerError
        If a period is empty, because there are too few timestamps, or nothing is left to train a
        fold.
    """
    times = pc.cast(timestamps, pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    ordered = np.sort(times)
    starts = [ordered[len(ordered) * i // (count + 1)] for i in range(1, count + 1)]
    ends = [*starts[1:], ordered[-1] + 1]
    gap = embargo // timedelta(microseconds=1)
    folds = [
        Fold(train=times < start - gap, validation=(start <= times) & (times < end))
        for start, end in zip(starts, ends, strict=True)
    ]
    for number, fold in enumerate(folds, start=1):
        if not fold.train.any() or not fold.validation.any():
            part = "training" if fold.validation.any() else "validation"
            raise RunnerError(
                f"tuning.folds: fold {number} of {count} has no {part} row: {len(times)} rows of "
                f"{len(np.unique(times))} timestamps, embargo {format_duration(embargo)}",
                hint="set tuning.folds lower, or make the spine longer",
            )
    return folds

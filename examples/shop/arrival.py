"""How rows arrive: in batches, mostly at once, some hours or days after the fact."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY

_BATCH = 15 * MINUTE


def arrive(
    rng: np.random.Generator,
    occurred_at: Ints,
    *,
    hours_late: float = 0.05,
    days_late: float = 0.01,
    latest: int = 5 * DAY,
) -> Ints:
    """Return when each row is loaded, in seconds: the end of the first batch that has it.

    Parameters
    ----------
    occurred_at
        When each row happened, in seconds.
    hours_late, days_late
        The share of rows that arrive within a day, and within `latest` seconds.
    """
    count = len(occurred_at)
    kind = rng.random(count)
    delay = rng.random(count)
    seconds = np.select(
        [kind < days_late, kind < days_late + hours_late],
        [DAY + delay * (latest - DAY - _BATCH), HOUR + delay * (DAY - HOUR)],
        delay * 5 * MINUTE,
    ).astype(np.int64)
    return -(-(occurred_at + seconds) // _BATCH) * _BATCH

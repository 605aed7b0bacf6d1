"""Whether the online store still has what the model asks for.

A store that was flushed, or that nobody materializes any more, answers as promptly as ever; the
model imputes and nothing looks wrong. So the features of the last rows are counted.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from functools import lru_cache

from contract.view_layout import EXPIRED, MISSING
from serving.features.online_row import OnlineRow
from serving.logs import log

_ROWS = 100
_ENOUGH = 10
"""Fewer rows say nothing: they may be of entities that are new."""
_STALE, _FRESH = 0.5, 0.45
"""Apart, so that a share between them is not one line after another."""
_CURRENT_SECONDS = 60.0


@lru_cache(maxsize=1024)  # rows that lack something often lack the same
def _absent_share(statuses: tuple[str, ...]) -> float:
    return (statuses.count(MISSING) + statuses.count(EXPIRED)) / len(statuses)


class RecentRows:
    """The share of missing and expired features among the last 100 predicted rows.

    Attributes
    ----------
    stale
        Whether most features are missing or expired; said in the log when it changes.
    """

    def __init__(self) -> None:
        self._shares: deque[float] = deque(maxlen=_ROWS)
        self._sum = 0.0
        self._last = 0.0
        self.stale = False

    def note_all(self, rows: Sequence[OnlineRow]) -> None:
        """Count rows as `note` does; faster where nothing is absent."""
        if self._nothing_was_absent() and all(row.is_complete for row in rows):
            self._last = time.monotonic()
        else:
            for row in rows:
                self.note(row)

    def note(self, row: OnlineRow) -> None:
        """Count one row, as the model sees it: what a request overrides is not absent."""
        share = 0.0
        if not row.is_complete:
            share = _absent_share(tuple(row.statuses))
        self._last = time.monotonic()
        if not share and self._nothing_was_absent():
            return  # one more like all before it
        if len(self._shares) == _ROWS:
            self._sum -= self._shares[0]
        self._shares.append(share)
        self._sum += share
        if len(self._shares) >= _ENOUGH and self.stale != self._looks_stale():
            self._turn()

    @property
    def absent_share(self) -> float:
        """From 0 to 1; 0 where no row was predicted."""
        return max(0.0, self._sum) / len(self._shares) if self._shares else 0.0

    @property
    def keeps_away(self) -> bool:
        """Whether it is stale by rows of the last minute.

        After that somebody has to ask again: where nothing is sent to a server that is not ready,
        no row would ever show that the store is filled.
        """
        return self.stale and time.monotonic() - self._last < _CURRENT_SECONDS

    def _nothing_was_absent(self) -> bool:
        return len(self._shares) == _ROWS and not self._sum and not self.stale

    def _looks_stale(self) -> bool:
        return self.absent_share > (_FRESH if self.stale else _STALE)

    def _turn(self) -> None:
        self.stale = not self.stale
        share = f"{self.absent_share:.0%}"
        if self.stale:
            log(
                "error",
                "the online store is empty or stale for this model",
                absent_share=share,
                hint="run `runner materialize`, and `runner doctor` for what is wrong",
            )
        else:
            log("info", "the online store has this model's features again", absent_share=share)

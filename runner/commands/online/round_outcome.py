"""How a round of `runner refresh` ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from runner.errors import CombinedError, RunnerError
from runner.online.view_report import ViewReport


@dataclass(frozen=True)
class Round:
    """What a round did.

    Attributes
    ----------
    collected
        Rows moved from Redis to raw tables.
    built
        The dbt models that were built.
    written, removed
        Values in Redis, over all views.
    newest
        The newest event time of the features; None: there is none.
    compared
        When the view that was compared the longest ago was compared with its mart; None: this
        round compared all.
    """

    collected: int
    built: tuple[str, ...]
    written: int
    removed: int
    newest: datetime | None
    compared: datetime | None
    seconds: float

    @classmethod
    def of(
        cls, collected: int, built: Sequence[str], reports: Sequence[ViewReport], seconds: float
    ) -> Round:
        """Return what a round did in which every step succeeded."""
        followed = [r.compared for r in reports if r.compared and r.compared != r.as_of]
        return cls(
            collected=collected,
            built=tuple(built),
            written=sum(report.written for report in reports),
            removed=sum(report.removed for report in reports),
            newest=max((report.newest for report in reports if report.newest), default=None),
            compared=min(followed, default=None),
            seconds=seconds,
        )


class RoundError(CombinedError):
    """Steps of a round failed; the message says what it copied all the same.

    Parameters
    ----------
    errors
        At least one.
    copied
        What was done to the views that were copied.
    """

    def __init__(self, errors: Sequence[RunnerError], copied: Sequence[ViewReport]) -> None:
        super().__init__(errors, hint=errors[0].hint)
        if copied:
            written = sum(report.written for report in copied)
            removed = sum(report.removed for report in copied)
            views = ", ".join(report.view for report in copied)
            self.message += f"; copied {views}: {written:,} written, {removed:,} removed"
            self.args = (self.message,)

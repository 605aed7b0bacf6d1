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
    """

    collected: int
    built: tuple[str, ...]
    written: int
    removed: int
    newest: datetime | None
    seconds: float


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

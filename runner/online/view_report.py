"""What a materialization did, view by view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from runner.errors import CombinedError, RunnerError

FULL, INCREMENTAL, SUPERSEDED = "full", "incremental", "superseded"


@dataclass(frozen=True)
class ViewReport:
    """What one run did to one view.

    Attributes
    ----------
    mode
        `full`; `incremental`; or `superseded`: nothing done, the store is of a later instant.
    as_of
        The instant materialized.
    reason
        Why everything was copied although an earlier run had been completed; empty: nothing to say.
    entities
        Entities with a valid row in the mart, as far as the run looked.
    written
        Rows written; `entities` less those that were already right and `kept_newer`.
    kept_newer
        Values left alone because they are newer than the mart's and not from an earlier run.
    removed
        Entities removed because the mart no longer has a valid row for them.
    seconds
        Time taken.
    compared
        The instant at which every entity was last compared with the mart; None: `superseded`.
    newest
        The newest event time of the view; None: it has no row, or it is not known.
    advice
        What keeps a view with `compare_every` from following new rows; empty: nothing to say.
    """

    view: str
    mode: str
    as_of: datetime
    reason: str = ""
    entities: int = 0
    written: int = 0
    kept_newer: int = 0
    removed: int = 0
    seconds: float = 0.0
    compared: datetime | None = None
    newest: datetime | None = None
    advice: str = ""

    @property
    def rows_per_second(self) -> float:
        """Entities handled per second."""
        return self.entities / self.seconds if self.seconds else 0.0


class MaterializeError(CombinedError):
    """Some views could not be copied; the others are.

    Parameters
    ----------
    errors
        One per view that could not be copied.
    reports
        What was done to the others.
    """

    def __init__(self, errors: Sequence[RunnerError], reports: Sequence[ViewReport]) -> None:
        super().__init__(errors, hint=errors[0].hint)
        self.reports = tuple(reports)

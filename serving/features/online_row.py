"""The features of one entity row."""

from __future__ import annotations

from collections.abc import Sequence

from contract.values import FeatureValue


class OnlineRow:
    """The features of one entity row, in the order of `bundle.features`.

    Attributes
    ----------
    values
        Exact values; None unless the status is `present`.
    statuses
        Those of `contract.view_layout`.
    read_at
        When they were read, in Unix seconds.
    times
        Of each view, in the order of `OnlineFormat.views`: the event time of the row, in Unix
        seconds; None where the row is missing.
    is_complete
        Whether every status is `present`: most rows need no second look.
    """

    __slots__ = ("is_complete", "read_at", "statuses", "times", "values")

    def __init__(
        self,
        values: Sequence[FeatureValue],
        statuses: Sequence[str],
        read_at: float,
        times: Sequence[float | None],
        is_complete: bool = False,
    ) -> None:
        self.values = values
        self.statuses = statuses
        self.read_at = read_at
        self.times = times
        self.is_complete = is_complete

"""Live scores as cells of a table, in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runner.modelling.bootstrap import Interval
from runner.monitoring.findings import Monitoring

SCORE_HEAD = ["scorer", "live", "95% CI", "test rows"]
SLICE_HEAD = ["slice", "value", "labels", "not due", "overdue", *SCORE_HEAD]


def score_cells(scorer: str, live: Interval | None, why: str, tested: float | None) -> list[str]:
    """Return the cells below `SCORE_HEAD`.

    Parameters
    ----------
    why
        Why there is no live score.
    tested
        The score on the test rows.
    """
    test = "–" if tested is None else f"{tested:.4f}"
    if live is None:
        return [scorer, "–", why, test]
    return [scorer, f"{live.value:.4f}", f"{live.low:.4f} to {live.high:.4f}", test]


def slice_lines(found: Monitoring, scorers: Sequence[str]) -> Iterator[list[str]]:
    """Yield the cells below `SLICE_HEAD`, a line per value and scorer."""
    for each in found.quality.slices:
        tested = found.test_slices.get((each.name, each.value), {})
        counts = [_count(number) for number in (each.labelled, each.not_due, each.without)]
        for scorer in scorers:
            live, why = each.scores.get(scorer), each.reasons.get(scorer, "")
            cells = score_cells(scorer, live, why, tested.get(scorer))
            yield [each.name, each.value, *counts, *cells]


def _count(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"

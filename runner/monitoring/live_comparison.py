"""A champion and its shadow on the same requests, scored on the labels that came back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runner.modelling.bootstrap import Interval, paired_interval
from runner.monitoring.live_scores import Judge, row_entities
from runner.monitoring.outcome_rows import OutcomeRows


@dataclass(frozen=True)
class LiveComparison:
    """How much better a shadow's predictions were than the champion's.

    Attributes
    ----------
    rows
        The labelled rows that both answered.
    scores
        Scorer → the champion's score and the shadow's, each with its 95 % interval, where both are
        defined.
    scorer, difference
        The recipe's first scorer, and the shadow's score less the champion's; None: not defined.
    reason
        Why not.
    """

    version: str
    shadow: str
    rows: int
    scores: Mapping[str, tuple[Interval, Interval]]
    scorer: str
    difference: Interval | None
    reason: str = ""

    @property
    def summary(self) -> str:
        """The outcome in a sentence."""
        if self.difference is None:
            return f"{self.scorer} on live labels is not known: {self.reason}"
        champion, shadow = self.scores[self.scorer]
        return (
            f"{self.scorer} is {champion.value:.4f} for version {self.version} and "
            f"{shadow.value:.4f} for its shadow, version {self.shadow}: {self.shown_difference}"
        )

    def properties(self, version: str) -> dict[tuple[str, str], float | str]:
        """Return (`live`, name) → the version's scores, and for the shadow the difference."""
        which = 0 if version == self.version else 1
        found: dict[tuple[str, str], float | str] = {}
        for scorer, both in self.scores.items():
            found["live", f"live_{scorer}"] = both[which].value
            found["live", f"live_{scorer}_low"] = both[which].low
            found["live", f"live_{scorer}_high"] = both[which].high
        if version == self.shadow:
            found["live", f"live_{self.scorer} difference"] = self.shown_difference
        return found

    @property
    def shown_difference(self) -> str:
        """The difference with its interval and rows."""
        if self.difference is None:
            return self.reason
        found = self.difference
        return (
            f"{found.value:+.4f} (95% CI {found.low:+.4f} to {found.high:+.4f}) on the same "
            f"{self.rows:,} labelled rows"
        )


def compare_with_shadow(
    judge: Judge, outcomes: OutcomeRows, version: str, shadow: str
) -> LiveComparison:
    """Return how the shadow compares with the champion `version` on the rows of `outcomes`."""
    old_rows, new_rows = outcomes.pairs(shadow)
    (old_scores, old_reasons), (new_scores, reasons) = map(judge.scored, (old_rows, new_rows))
    scores = {
        name: (old_scores[name], new_scores[name]) for name in old_scores if name in new_scores
    }
    scorer, rows = judge.recipe.scoring[0], len(old_rows.days)
    old, new = judge.answers(old_rows), judge.answers(new_rows)
    if scorer not in scores or isinstance(old, str) or isinstance(new, str):
        reason = old_reasons.get(scorer) or reasons[scorer]
        return LiveComparison(version, shadow, rows, scores, scorer, None, reason)
    (before, y), (after, _) = old, new
    difference = paired_interval(scorer, after, before, y, row_entities(old_rows))
    return LiveComparison(version, shadow, rows, scores, scorer, difference)

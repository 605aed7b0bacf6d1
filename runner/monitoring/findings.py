"""All that `runner monitor` found, and the same in JSON's types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from runner.modelling.bootstrap import Interval
from runner.monitoring.broken_limits import (
    BrokenLimit,
    broken_by_ages,
    broken_by_columns,
    broken_by_scores,
    broken_by_skew,
)
from runner.monitoring.column_figures import ColumnFigure
from runner.monitoring.live_quality import LiveQuality
from runner.monitoring.live_scores import LiveScore
from runner.monitoring.monitored import Monitored
from runner.monitoring.seasons import lacking
from runner.monitoring.served_log import VersionDay, Window
from runner.monitoring.traffic_skew import FeatureSkew
from runner.warehouse.figures_table import FigureKind, FigureRow

if TYPE_CHECKING:
    from runner.recipes.recipe import Recipe


@dataclass(frozen=True)
class Monitoring:
    """What was found.

    Attributes
    ----------
    versions
        The answered rows of every version of the model, by day.
    columns
        What is monitored of the champion, with the distribution of its training rows.
    figures
        Of each of these columns: in the window first, then day by day.
    ages
        (View, day) → the mean age of its rows when they were read, in seconds.
    quality
        The scores on the labels that came back.
    test_scores
        The champion's scores on its test rows, by scorer.
    test_slices
        The same of the recipe's slices: (slice, value) → score by scorer.
    skew
        How what it saw differs from the point-in-time join, per feature.
    """

    recipe: Recipe
    window: Window
    versions: Sequence[VersionDay]
    columns: Sequence[Monitored]
    figures: Sequence[ColumnFigure]
    ages: dict[tuple[str, str], float]
    quality: LiveQuality
    test_scores: Mapping[str, float]
    test_slices: Mapping[tuple[str, str], Mapping[str, float]]
    skew: Sequence[FeatureSkew]

    def on_test_rows(self, live: LiveScore) -> float | None:
        """Return the score on the test rows that a live score compares with.

        None of another version and of a shadow: the champion's would say nothing of them.
        """
        is_champion = live.version == self.window.version and not live.is_shadow
        return self.test_scores.get(live.scorer) if is_champion else None

    @property
    def broken_limits(self) -> list[BrokenLimit]:
        """What breaks a limit of the recipe's `monitor`."""
        limits = self.recipe.monitor
        if limits is None:
            return []
        return [
            *broken_by_columns(limits, self.figures),
            *broken_by_ages(limits, self.ages),
            *broken_by_scores(limits, self.quality.scores, self.window.version),
            *broken_by_skew(limits, self.skew),
        ]

    @property
    def compared_with(self) -> str:
        """The training rows that each day is compared with."""
        by = self.recipe.monitor and self.recipe.monitor.compare_by
        days = [each for each in self.figures if each.day]
        lacks = lacking(lack for each in days for lack in each.lacks)
        if by and lacks and all(each.lacks for each in days):
            return f"all training rows, and not tested: {lacks}"
        if by and lacks:
            return (
                f"the training rows of the same {by}; {lacks}: compared with all, and neither "
                "these days nor the window are tested"
            )
        return f"the training rows of the same {by}" if by else "all training rows"

    @property
    def record(self) -> dict[str, object]:
        """Everything in JSON's types."""
        window, quality = self.window, self.quality
        return {
            "model": window.model,
            "version": window.version,
            "run_id": window.run_id,
            "since": window.since.isoformat(),
            "until": window.until.isoformat(),
            "versions": [vars(each) for each in self.versions],
            "compared_with": self.compared_with,
            "columns": [each.record for each in self.figures],
            "ages": [
                {"view": view, "day": day, "mean_seconds": age}
                for (view, day), age in sorted(self.ages.items())
            ],
            "quality": {
                "labelled": quality.labelled,
                "not_due": quality.not_due,
                "without_label": quality.without,
                "reason": quality.reason or None,
                "test_scores": dict(self.test_scores),
                "scores": [each.record for each in quality.scores],
                "slices": [
                    each.record
                    | {"test_scores": dict(self.test_slices.get((each.name, each.value), {}))}
                    for each in quality.slices
                ],
                "slices_not_known": dict(quality.unsliced),
                "reliability": [vars(each) for each in quality.reliability],
            },
            "skew": [each.record for each in self.skew],
            "broken_limits": [each.record for each in self.broken_limits],
        }

    def rows(self) -> Iterator[FigureRow]:
        """Yield the champion's figures of each day, for the warehouse."""
        for version in self.versions:
            if version.version == self.window.version:
                day = date.fromisoformat(version.day)
                yield FigureRow(day, "rows", "", version.rows, answered_rows=version.rows)
        for of in self.figures:
            if of.day:
                day, rows = date.fromisoformat(of.day), round(of.rows)
                yield FigureRow(
                    day, "drift", of.column, of.drift, p_value=of.p_value, answered_rows=rows
                )
                if of.missing is not None:
                    yield FigureRow(day, "missing", of.column, of.missing, answered_rows=rows)
                for status, share in (of.statuses or {}).items():
                    name = f"{of.column} {status}"
                    yield FigureRow(day, "status", name, share, answered_rows=rows)
        for (view, at), age in self.ages.items():
            yield FigureRow(date.fromisoformat(at), "age", view, age)
        yield from self._scores()

    def _scores(self) -> Iterator[FigureRow]:
        for score in self.quality.scores:
            if score.day and score.interval and score.version == self.window.version:
                yield _score_row(score.day, "score", score.scorer, score.interval, score.rows)
        for each in self.quality.slices:
            for day in each.days:
                for scorer, interval in day.scores.items():
                    name = f"{scorer} {each.name}={each.value}"
                    yield _score_row(day.day, "slice_score", name, interval, day.rows)


def _score_row(day: str, kind: FigureKind, name: str, found: Interval, rows: int) -> FigureRow:
    interval = (found.value, found.low, found.high)
    return FigureRow(date.fromisoformat(day), kind, name, *interval, answered_rows=rows)

"""The limits of a recipe that are broken: column, value and limit, a sentence each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from runner.duration import format_duration
from runner.monitoring.column_figures import ColumnFigure
from runner.monitoring.live_scores import LiveScore
from runner.monitoring.seasons import lacking
from runner.monitoring.traffic_skew import FeatureSkew
from runner.recipes.limits import MonitorLimits
from runner.recipes.yaml_source import Problem

_HINTS = {
    "max_drift": "look at its source, and train again if the change is real",
    "max_missing": "run `runner materialize`, and look at an entity with `runner online get`",
    "max_age": "run `runner materialize`, and dbt before it",
    "min_scores": "train again, or restore the previous champion with `runner rollback`",
    "max_skew": "`runner audit` compares the online store as it is now",
}


@dataclass(frozen=True)
class BrokenLimit:
    """A limit that is broken.

    Attributes
    ----------
    key
        That of the recipe's `monitor`.
    name
        What breaks it: a column, a view or a scorer.
    day
        On which it is farthest from the limit; empty: in the window.
    value, limit
        What was found there, and what the recipe accepts; an age is in seconds.
    message
        All of this in a sentence.
    """

    key: str
    name: str
    day: str
    value: float
    limit: float
    message: str

    @property
    def problem(self) -> Problem:
        """The same as a problem of the recipe's key."""
        return Problem(("monitor", self.key), self.message, _HINTS[self.key])

    @property
    def record(self) -> dict[str, object]:
        """The same in JSON's types."""
        return vars(self) | {"day": self.day or None}


def broken_by_columns(
    limits: MonitorLimits, figures: Sequence[ColumnFigure]
) -> Iterator[BrokenLimit]:
    """Yield what breaks `max_drift` and `max_missing`: per column, its first and its worst day."""
    for column in dict.fromkeys(each.column for each in figures):
        of = [each for each in figures if each.column == column]
        if limits.max_drift is not None:
            far = [f for f in of if f.has_drifted and f.drift > limits.max_drift]
            if far:
                worst = max(far, key=lambda each: each.drift)
                yield BrokenLimit(
                    "max_drift",
                    column,
                    worst.day,
                    worst.drift,
                    limits.max_drift,
                    f"{column} has drifted by {worst.drift:.3f} "
                    f"{_when(worst, far)}, the limit is {limits.max_drift:g}",
                )
        if limits.max_missing is not None:
            absent = [f for f in of if f.day and (f.missing or 0) > limits.max_missing]
            if absent:
                worst = max(absent, key=lambda each: each.missing or 0)
                yield BrokenLimit(
                    "max_missing",
                    column,
                    worst.day,
                    worst.missing or 0,
                    limits.max_missing,
                    f"{column} is missing or expired in {worst.missing:.1%} of the "
                    f"rows {_when(worst, absent)}, the limit is {limits.max_missing:.1%}",
                )


def unchecked_drift(
    limits: MonitorLimits, figures: Sequence[ColumnFigure], columns: Iterable[str]
) -> dict[str, list[str]]:
    """Return the columns `max_drift` is not checked for, nothing of them being tested, by why."""
    found: dict[str, list[str]] = {}
    if limits.max_drift is not None:
        tested = {each.column for each in figures if each.p_value is not None}
        lacks = {each.column: lacking(each.lacks) for each in figures if not each.day}
        for name in columns:
            if name not in tested:
                why = lacks.get(name) or "too few entities or values to test it"
                found.setdefault(why, []).append(name)
    return found


def unchecked_ages(
    limits: MonitorLimits, ages: Mapping[tuple[str, str], float], views: Iterable[str]
) -> list[str]:
    """Return which of the views `max_age` is not checked for: no row of them was read."""
    if limits.max_age is None:
        return []
    read = {view for view, _ in ages}
    return [view for view in views if view not in read]


def broken_by_ages(
    limits: MonitorLimits, ages: Mapping[tuple[str, str], float]
) -> Iterator[BrokenLimit]:
    """Yield what breaks `max_age`: per view, the day on which its rows were oldest."""
    if limits.max_age is None:
        return
    for view in sorted({view for view, _ in ages}):
        age, day = max((age, day) for (name, day), age in ages.items() if name == view)
        if age > limits.max_age.total_seconds():
            yield BrokenLimit(
                "max_age",
                view,
                day,
                age,
                limits.max_age.total_seconds(),
                f"the rows of {view} were {_shown(age)} old on {day}, on average; the limit is "
                f"{format_duration(limits.max_age)}",
            )


def _shown(age: float) -> str:
    """Return an age in seconds with one decimal, rounded up: it is above a limit."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if age >= 2 * size:
            return f"{ceil(round(10 * age / size, 3)) / 10:g}{unit}"
    return f"{ceil(age)}s"


def broken_by_scores(
    limits: MonitorLimits, scores: Iterable[LiveScore], version: str
) -> Iterator[BrokenLimit]:
    """Yield what breaks `min_scores`, of the champion's scores in the window."""
    whole = _whole(scores, version)
    for scorer, least in limits.min_scores.items():
        score = whole.get(scorer)
        found = score and score.interval
        if score and found and found.high < least:
            yield BrokenLimit(
                "min_scores",
                scorer,
                "",
                found.value,
                least,
                f"live {scorer} is {found.value:.4f} ({found.low:.4f} to "
                f"{found.high:.4f}) on {score.rows:,} rows, the limit is {least:g}",
            )


def unchecked_scores(
    limits: MonitorLimits, scores: Iterable[LiveScore], version: str
) -> Iterator[str]:
    """Yield each of `min_scores` that the champion has no live score for, and why."""
    whole = _whole(scores, version)
    for scorer in limits.min_scores:
        found = whole.get(scorer)
        if found is None:
            yield scorer
        elif found.interval is None:
            yield f"{scorer} ({found.reason})"


def _whole(scores: Iterable[LiveScore], version: str) -> dict[str, LiveScore]:
    """Return the champion's scores in the whole window, by scorer."""
    return {
        each.scorer: each
        for each in scores
        if not each.day and not each.is_shadow and each.version == version
    }


def broken_by_skew(limits: MonitorLimits, skew: Iterable[FeatureSkew]) -> Iterator[BrokenLimit]:
    """Yield what breaks `max_skew`."""
    for each in skew:
        if limits.max_skew is not None and each.share > limits.max_skew:
            causes = ", ".join(f"{count} {cause}" for cause, count in each.causes.most_common())
            yield BrokenLimit(
                "max_skew",
                each.feature,
                "",
                each.share,
                limits.max_skew,
                f"{each.feature} differs from the point-in-time join in "
                f"{each.share:.1%} of {each.compared:,} rows ({causes}), the limit is "
                f"{limits.max_skew:.1%}",
            )


def hints(broken: Iterable[BrokenLimit]) -> str:
    """Return what to do about each of the limits that are broken."""
    limits = dict.fromkeys(each.key for each in broken)
    return "; ".join(f"{limit}: {_HINTS[limit]}" for limit in limits)


def _when(worst: ColumnFigure, broken: Sequence[ColumnFigure]) -> str:
    days = [each.day for each in broken if each.day]
    if not days:
        return "in the window"
    since = f" (first on {days[0]})" if days[0] != worst.day else ""
    return f"on {worst.day}{since}" if worst.day else f"in the window{since}"

"""How good the champion's served predictions were on parts of the rows: the recipe's slices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from contract.bundle import Bundle
from runner.modelling.bootstrap import Interval
from runner.monitoring.labelled_rows import LabelledRows
from runner.monitoring.live_scores import Judge
from runner.monitoring.outcome_rows import (
    OTHERS,
    OutcomeRows,
    SliceColumn,
    SliceCount,
)
from runner.project.manifest import Spine
from runner.recipes.feature_reference import FeatureReference

if TYPE_CHECKING:
    from runner.recipes.recipe import Recipe


@dataclass(frozen=True)
class SliceDay:
    """The labelled rows of a day with one value of a slice, scored."""

    day: str
    rows: int
    scores: Mapping[str, Interval]


@dataclass(frozen=True)
class LiveSlice:
    """The champion's rows with one value of a slice, scored where they have a label.

    Attributes
    ----------
    name, value
        What the recipe lists, and the value as text: `(null)`, `true`, or `(others)` for the
        values that fewest rows have.
    labelled
        Its rows that have a label.
    not_due, without
        Its rows whose label is not due, and those that are due and have none; None: the serving
        log does not have the column, so only rows with a label have a value.
    scores, reasons
        Scorer → the score with its 95 % interval, or why it is not defined.
    days
        The days on which a score is defined.
    """

    name: str
    value: str
    labelled: int
    not_due: int | None
    without: int | None
    scores: Mapping[str, Interval]
    reasons: Mapping[str, str]
    days: Sequence[SliceDay]

    @property
    def record(self) -> dict[str, object]:
        """The slice in JSON's types."""
        return {
            "slice": self.name,
            "value": self.value,
            "labelled": self.labelled,
            "not_due": self.not_due,
            "without_label": self.without,
            "scores": _scores_record(self.scores),
            "not_scored": dict(self.reasons),
            "days": [
                {"day": each.day, "rows": each.rows, "scores": _scores_record(each.scores)}
                for each in self.days
            ],
        }


def slice_columns(
    recipe: Recipe, bundle: Bundle, outcome: Spine
) -> tuple[list[SliceColumn], dict[str, str]]:
    """Return where the values of the recipe's slices are, and why some slices are not known."""
    found, absent = [], {}
    for name in recipe.slices:
        column = FeatureReference.parse(name).column if ":" in name else name
        place, is_personal = _place(bundle, outcome, column)
        if is_personal:
            absent[name] = "it is personal data"
        elif place is None:
            absent[name] = f"neither the serving log nor {outcome.name} has it"
        else:
            found.append(SliceColumn(name, place))
    return found, absent


def _place(bundle: Bundle, outcome: Spine, column: str) -> tuple[tuple[str, str] | None, bool]:
    """Return where the column is, and whether it is personal data."""
    for one in bundle.row:
        if one.name == column:
            return ("features", column), one.pii
    for key in bundle.entity_keys:
        if key.name == column:
            return ("entity_keys", column), key.pii
    kept = outcome.columns.get(column)
    return (None, False) if kept is None else (("", column), kept.pii)


def live_slices(
    judge: Judge, outcomes: OutcomeRows, columns: Sequence[SliceColumn], rows: LabelledRows
) -> Iterator[LiveSlice]:
    """Yield the slices of the champion's rows, in the recipe's order.

    Parameters
    ----------
    rows
        Its labelled rows, with the values of `columns`.
    """
    for column, values in zip(columns, rows.slices.T, strict=True):
        counts = outcomes.by_value(column)
        names = [count.value for count in counts if count.value != OTHERS]
        shown = np.where(np.isin(values, names), values, OTHERS)
        for count in counts:
            part = rows.of(shown == count.value)
            yield _slice(judge, column.name, count, part)


def _slice(judge: Judge, name: str, count: SliceCount, rows: LabelledRows) -> LiveSlice:
    scores, reasons = judge.scored(rows)
    days = []
    for day in sorted(set(rows.days)):
        of = rows.of(rows.days == day)
        if found := judge.scored(of)[0]:
            days.append(SliceDay(day, len(of.days), found))
    not_due, without = None, None
    if count.rows is not None and count.due is not None:
        not_due, without = count.rows - count.due, max(0, count.due - count.labelled)
    return LiveSlice(
        name, count.value, count.labelled, not_due, without, scores, reasons, tuple(days)
    )


def _scores_record(scores: Mapping[str, Interval]) -> dict[str, object]:
    return {name: vars(found) for name, found in scores.items()}

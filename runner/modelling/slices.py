"""How good a model is on parts of the test rows: the scores by each value of a slice.

Every test row is in one part of each slice: nulls are a part of their own, the rarest values one
together, and a part too small to be scored is reported, not left out.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.base import BaseEstimator
from sklearn.exceptions import UndefinedMetricWarning

from contract.predictions import Predictions
from runner import console
from runner.modelling.bootstrap import Interval, RowNumbers, predicted, score_interval
from runner.modelling.contender import Contender, entity_numbers
from runner.recipes.feature_reference import FeatureReference

if TYPE_CHECKING:
    from runner.recipes.recipe import Recipe

MIN_ROWS = 50
MAX_VALUES = 20
RESAMPLES = 200
_NULL = "(null)"


@dataclass(frozen=True)
class Slice:
    """The test rows with one value of a slice, scored.

    Attributes
    ----------
    name, value
        What the recipe lists, and the value as text: `(null)`, `true`, or `(12 others)` for the
        values that fewest rows have.
    scores
        Scorer name → the score, as served, with its 95 % interval; without those not defined here.
    reasons
        Scorer name → why it is not defined here.
    """

    name: str
    value: str
    rows: int
    scores: dict[str, Interval]
    reasons: dict[str, str]

    @property
    def record(self) -> dict[str, Any]:
        """The slice in JSON's types."""
        scores = {
            name: {"score": found.value, "low": found.low, "high": found.high}
            for name, found in self.scores.items()
        }
        return {
            "slice": self.name,
            "value": self.value,
            "rows": self.rows,
            "scores": scores,
            "not_scored": self.reasons,
        }


@dataclass(frozen=True)
class SliceSummary:
    """Where a score is lowest among the values of a slice.

    Attributes
    ----------
    values, unscored
        How many values there are, and for how many of them the score is not defined.
    lowest, score
        The value of the lowest score, and that score; None if no value is scored.
    """

    name: str
    values: int
    unscored: int
    lowest: Slice | None
    score: Interval | None

    @property
    def cells(self) -> list[str]:
        """The summary as a line of a table."""
        begin = [self.name, str(self.values), str(self.unscored)]
        if self.lowest is None or self.score is None:
            return [*begin, "–", "–", "–", "–"]
        score = f"{self.score.value:.4f}"
        interval = f"{self.score.low:.4f} to {self.score.high:.4f}"
        return [*begin, self.lowest.value, f"{self.lowest.rows:,}", score, interval]


def score_slices(recipe: Recipe, contender: Contender) -> list[Slice]:
    """Return the recipe's slices of the test rows, in its order, the value of most rows first."""
    if not recipe.slices:
        return []
    table = contender.data.table.filter(pa.array(contender.data.split.test))
    groups = entity_numbers(table, contender.spine)
    slices: list[Slice] = []
    with console.step("bootstrap: scores by slice") as step:
        for name in recipe.slices:
            for value, rows in _parts(table[_column(name)]):
                step.update(f"{name} {value}")
                slices.append(_scored(recipe, contender, groups, name, value, rows))
        step.update(f"{len(slices)} values of {', '.join(recipe.slices)}")
    return slices


def summaries(slices: Sequence[Slice], scorer: str) -> list[SliceSummary]:
    """Return one summary per slice of the recipe."""
    found = []
    for name in dict.fromkeys(each.name for each in slices):
        parts = [each for each in slices if each.name == name]
        scored = [each for each in parts if scorer in each.scores]
        lowest = min(scored, key=lambda each: each.scores[scorer].value, default=None)
        score = lowest.scores[scorer] if lowest else None
        found.append(SliceSummary(name, len(parts), len(parts) - len(scored), lowest, score))
    return found


def markdown(slices: Sequence[Slice], scoring: Sequence[str]) -> str:
    """Return the slices as a table to read."""
    lines = [
        f"| slice | value | test rows | {' | '.join(scoring)} |",
        f"|---|---|--:|{'---|' * len(scoring)}",
    ]
    for each in slices:
        cells = [_cell(each, scorer) for scorer in scoring]
        value = each.value.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {each.name} | {value} | {each.rows:,} | {' | '.join(cells)} |")
    note = f"In brackets: where 95 % of {RESAMPLES} resamples of the entities lie."
    return "\n".join([*lines, "", note, ""])


def _cell(part: Slice, scorer: str) -> str:
    if scorer not in part.scores:
        return part.reasons[scorer]
    found = part.scores[scorer]
    return f"{found.value:.4f} [{found.low:.4f}, {found.high:.4f}]"


def _column(name: str) -> str:
    """Return the column of a slice: a column of the spine itself, or a feature's."""
    return FeatureReference.parse(name).column if ":" in name else name


def _parts(column: pa.ChunkedArray) -> Iterator[tuple[str, RowNumbers]]:
    """Yield each value as text with the numbers of its rows; the rarest values together."""
    values = np.array([_text(value) for value in column.to_pylist()], dtype=object)
    names, numbers, counts = np.unique(values, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    shown, others = order[:MAX_VALUES], order[MAX_VALUES:]
    for number in shown:
        yield str(names[number]), np.flatnonzero(numbers == number)
    if len(others):
        yield f"({len(others)} others)", np.flatnonzero(np.isin(numbers, others))


def _text(value: Any) -> str:
    if value is None:
        return _NULL
    return str(value).lower() if isinstance(value, bool) else str(value)


def _scored(
    recipe: Recipe,
    contender: Contender,
    groups: RowNumbers,
    name: str,
    value: str,
    rows: RowNumbers,
) -> Slice:
    y, shown = contender.data.test.y[rows], contender.predictions
    probabilities = None if shown.probabilities is None else shown.probabilities[rows]
    model = predicted(Predictions(shown.labels[rows], probabilities), contender.classes)
    _, entities = np.unique(groups[rows], return_inverse=True)
    scores, reasons = scores_with_reasons(recipe, model, y, entities)
    return Slice(name, value, len(rows), scores, reasons)


def scores_with_reasons(
    recipe: Recipe,
    model: BaseEstimator,
    y: npt.NDArray[np.generic],
    entities: RowNumbers,
) -> tuple[dict[str, Interval], dict[str, str]]:
    """Return the recipe's scores of a `predicted` model, and why a scorer has none."""
    reason = _why_not(recipe, y)
    scores, reasons = {}, {}
    for scorer in recipe.scoring:
        if reason:
            reasons[scorer] = reason
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UndefinedMetricWarning)
                scores[scorer] = score_interval(scorer, model, y, entities, RESAMPLES)
        except ValueError as err:  # scikit-learn's: some class is not among these rows
            reasons[scorer] = " ".join(str(err).split())
    return scores, reasons


def _why_not(recipe: Recipe, y: npt.NDArray[np.generic]) -> str:
    if len(y) < MIN_ROWS:
        return f"fewer than {MIN_ROWS} rows"
    if recipe.task == "classification" and len(np.unique(y)) == 1:
        return f"{recipe.label} is {y[0]!s} in every row"
    return ""

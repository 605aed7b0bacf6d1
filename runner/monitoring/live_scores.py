"""The recipe's scorers on labelled rows of the serving log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import BaseEstimator

from contract.bundle import Label
from contract.predictions import Predictions
from runner.modelling.bootstrap import Interval, Labels, RowNumbers, predicted
from runner.modelling.slices import scores_with_reasons
from runner.monitoring.labelled_rows import LabelledRows, Texts

if TYPE_CHECKING:
    from runner.recipes.recipe import Recipe

_FLAGS = {"true": "1", "false": "0"}


@dataclass(frozen=True)
class LiveScore:
    """A score on labelled rows of a day, or of the window.

    Attributes
    ----------
    is_shadow
        Whether no client was given the version's answers; the labels are those of the same
        requests.
    interval
        With its 95 % interval; None where it is not defined.
    reason
        Why not.
    """

    version: str
    day: str
    scorer: str
    rows: int
    interval: Interval | None
    reason: str = ""
    is_shadow: bool = False

    @property
    def shown_as(self) -> str:
        """The version, as a reader of a table needs it."""
        return f"{self.version} (shadow)" if self.is_shadow else self.version

    @property
    def record(self) -> dict[str, object]:
        """The score in JSON's types."""
        found = self.interval
        return {
            "version": self.version,
            "is_shadow": self.is_shadow,
            "day": self.day or None,
            "scorer": self.scorer,
            "rows": self.rows,
            "score": found and found.value,
            "low": found and found.low,
            "high": found and found.high,
            "not_scored": self.reason or None,
        }


@dataclass(frozen=True)
class Judge:
    """Scores labelled rows by a recipe's scorers.

    Attributes
    ----------
    label
        What the versions predict.
    """

    recipe: Recipe
    label: Label

    def scored(self, rows: LabelledRows) -> tuple[dict[str, Interval], dict[str, str]]:
        """Return the scores by scorer, and why a scorer has none."""
        found = self.answers(rows)
        if isinstance(found, str):
            return {}, dict.fromkeys(self.recipe.scoring, found)
        return scores_with_reasons(self.recipe, *found, row_entities(rows))

    def answers(self, rows: LabelledRows) -> tuple[BaseEstimator, Labels] | str:
        """Return an estimator that answers as the version did, and the labels; or why not."""
        if self.label.classes is None:
            values = Predictions(rows.predictions.astype(np.float64), None)
            return predicted(values, None), rows.labels.astype(np.float64)
        classes = list(self.label.classes)
        by_name = {str(each): each for each in classes}
        kind = np.int64 if isinstance(classes[0], int) else object
        texts = (_as_classes(rows.predictions, by_name), _as_classes(rows.labels, by_name))
        if new := {text for part in texts for text in part} - by_name.keys():
            return f"{min(new)!r} is not one of the version's classes"
        given, y = (np.array([by_name[text] for text in part], kind) for part in texts)
        return predicted(Predictions(given, rows.probabilities), classes), y


def row_entities(rows: LabelledRows) -> RowNumbers:
    """Return a number from 0 per row, shape (n_rows,), equal for rows of one entity."""
    _, numbers = np.unique(rows.entities, return_inverse=True)
    return numbers


def _as_classes(texts: Texts, by_name: Mapping[str, object]) -> list[str]:
    """Return labels as classes are named: a flag is 0 or 1 where the model has no such class."""
    return [text if text in by_name else _FLAGS.get(text, text) for text in texts.tolist()]

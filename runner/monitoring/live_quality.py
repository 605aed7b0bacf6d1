"""How good the served predictions were: the recipe's scorers on the labels that came back.

An outcome model in dbt has each served row whose label is due, with the label by the same
definition that the model was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from contract.bundle import Label
from contract.scoring import Predictions
from runner.errors import RunnerError
from runner.modelling.bootstrap import Interval, predicted
from runner.modelling.slices import scores_with_reasons
from runner.monitoring.served_log import ANSWERED, WINDOW, Window
from runner.project.manifest import Manifest, Spine
from runner.warehouse.log_sql import LogReader

if TYPE_CHECKING:
    from runner.recipes.recipe import Recipe

_SHADOW_SECONDS = 60
"""A shadow answers within this time after the champion; a later row is of another request."""
MOST_ROWS = 100_000
"""If more rows have a label, this many are drawn at random and scored."""
_FLAGS = {"true": "1", "false": "0"}
Texts = npt.NDArray[np.str_]


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
class LiveQuality:
    """What is known of the champion's labels.

    Attributes
    ----------
    labelled
        Its rows that have a label; `MOST_ROWS` of them are scored.
    not_due
        Its rows whose label window is not over.
    without
        Its rows that are due and have no label: dbt has not built the outcome model since, or the
        label is late.
    scores
        Of every version that answered in the window, shadows too; of the champion by day too.
    reason
        Why none of this is known; empty: it is known.
    """

    labelled: int = 0
    not_due: int = 0
    without: int = 0
    scores: tuple[LiveScore, ...] = ()
    reason: str = ""


class LabelledRows(NamedTuple):
    """Labelled rows, column by column."""

    days: Texts
    entities: Texts
    labels: Texts
    predictions: Texts
    probabilities: npt.NDArray[np.float64]

    def of(self, rows: npt.NDArray[np.bool_]) -> LabelledRows:
        """Return some of the rows."""
        texts = (part[rows] for part in (self.days, self.entities, self.labels, self.predictions))
        days, entities, labels, predictions = texts
        return LabelledRows(days, entities, labels, predictions, self.probabilities[rows])


def live_quality(
    reader: LogReader,
    window: Window,
    manifest: Manifest,
    recipe: Recipe,
    label: Label,
    answered: Sequence[tuple[str, bool]],
) -> LiveQuality:
    """Return the scores of the labelled rows, or why there are none.

    Parameters
    ----------
    answered
        The versions that answered in the window, and whether as a shadow.
    """
    outcome = _outcome(manifest, recipe)
    if outcome is None:
        return LiveQuality(reason=f"dbt has no outcome model of {recipe.spine}.{recipe.label}")
    outcomes = _Outcomes(reader, window, outcome, label)
    try:
        labelled = outcomes.count()
        scores = [
            score
            for one in answered
            for score in _scores(recipe, label, window, one, outcomes.rows(*one))
        ]
    except RunnerError as err:  # dbt has not built it
        return LiveQuality(reason=err.message)
    due, not_due = outcomes.due(outcome.labels[recipe.label])
    if due and outcomes.is_empty():
        reason = (
            f"{outcome.name} has no rows though {due:,} are due: run `dbt build --select "
            "stg_serving__predictions+`"
        )
        return LiveQuality(0, not_due, due, reason=reason)
    return LiveQuality(labelled, not_due, max(0, due - labelled), tuple(scores))


def _outcome(manifest: Manifest, recipe: Recipe) -> Spine | None:
    for spine in manifest.spines.values():
        found = spine.outcome
        if found is not None and (found.spine, found.label) == (recipe.spine, recipe.label):
            return spine
    return None


class _Outcomes:
    """The rows of an outcome model in a window."""

    def __init__(self, reader: LogReader, window: Window, outcome: Spine, label: Label) -> None:
        self._reader, self._window, self._outcome = reader, window, outcome
        self._label = label

    def count(self) -> int:
        """Return how many rows of the champion have a label."""
        where = self._where("event_timestamp", self._window.version)
        [[count]] = self._reader.rows(f"select count(*) from {self._outcome.path} where {where}")
        return int(str(count or 0))

    def is_empty(self) -> bool:
        """Return whether dbt has built no row yet, of any model and time."""
        return not self._reader.rows(f"select 1 from {self._outcome.path} limit 1")

    def due(self, label_window: timedelta) -> tuple[int, int]:
        """Return how many of the champion's rows are due for a label, and how many are not."""
        sql, limit = self._reader.sql, self._window.until - label_window
        [[due, rows]] = self._reader.rows(
            f"select sum(case when served_at <= {sql.instant(limit.isoformat())} then 1 else 0 "
            f"end), count(*)\nfrom {sql.table}\n"
            f"where {self._where('served_at', self._window.version)} and {ANSWERED}"
        )
        return int(str(due or 0)), int(str(rows or 0)) - int(str(due or 0))

    def rows(self, version: str, is_shadow: bool) -> LabelledRows:
        """Return the labelled rows of a version, at most `MOST_ROWS`.

        A shadow's have the labels of the rows that clients were given for the same requests.
        """
        sql, served = self._reader.sql, "shadow" if is_shadow else "outcome"
        keys = [sql.text(f"outcome.{sql.name(key)}") for key in self._outcome.join_keys]
        entity = " || ' ' || ".join(f"coalesce({key}, '')" for key in keys) or "outcome.server_id"
        classes = [str(each) for each in self._label.classes or ()]
        shares = [sql.number(sql.json_text(f"{served}.probabilities", each)) for each in classes]
        label = f"outcome.{sql.name(self._label.name)}"
        columns = [
            sql.day("outcome.event_timestamp"),
            entity,
            sql.text(label),
            f"{served}.prediction",
            *shares,
        ]
        by_chance = sql.hash(["outcome.server_id", sql.text("outcome.server_row")])
        found = self._reader.rows(
            f"select {', '.join(columns)}\nfrom {self._outcome.path} as outcome\n"
            f"{self._shadow_join() if is_shadow else ''}"
            f"where {self._where('outcome.event_timestamp', version, f'{served}.')}\n"
            f"    and {label} is not null and {served}.prediction is not null\n"
            f"order by {by_chance}\nlimit {MOST_ROWS}"
        )
        texts = np.array([[str(cell) for cell in row[:4]] for row in found], np.str_)
        texts = texts.reshape(len(found), 4)
        probabilities = np.array([row[4:] for row in found], np.float64)
        probabilities = probabilities.reshape(len(found), len(classes))
        days, entities, labels, predictions = texts.T
        return LabelledRows(days, entities, labels, predictions, probabilities)

    def _shadow_join(self) -> str:
        later = self._reader.sql.seconds("shadow.served_at", "outcome.event_timestamp")
        same = [f"shadow.{name} = outcome.{name}" for name in ("request_id", "request_row")]
        same += ["shadow.server_id = outcome.server_id", "shadow.answered_as = 'shadow'"]
        same += [f"{later} between 0 and {_SHADOW_SECONDS}"]
        return f"join {self._reader.sql.table} as shadow\n    on {' and '.join(same)}\n"

    def _where(self, instant: str, version: str, of: str = "") -> str:
        sql, window = self._reader.sql, self._window
        return (
            f"{of}model_name = {sql.literal(window.model)} "
            f"and {of}model_version = {sql.literal(version)} "
            f"and {instant} >= {sql.instant(window.since.isoformat())} "
            f"and {instant} < {sql.instant(window.until.isoformat())}"
        )


def _scores(
    recipe: Recipe, label: Label, window: Window, answered: tuple[str, bool], rows: LabelledRows
) -> list[LiveScore]:
    version, is_shadow = answered
    is_champion = version == window.version and not is_shadow
    scores: list[LiveScore] = []
    for day in (WINDOW, *(sorted(set(rows.days)) if is_champion else ())):
        of = np.ones(len(rows.days), np.bool_) if day == WINDOW else rows.days == day
        found, reasons = scored(recipe, label, rows.of(of))
        of_scorers: dict[str, tuple[Interval | None, str]] = {
            **{name: (one, "") for name, one in found.items()},
            **{name: (None, why) for name, why in reasons.items()},
        }
        scores += [
            LiveScore(version, day, name, int(of.sum()), *one, is_shadow)
            for name, one in of_scorers.items()
        ]
    return scores


def scored(
    recipe: Recipe, label: Label, rows: LabelledRows
) -> tuple[dict[str, Interval], dict[str, str]]:
    """Return the recipe's scores of labelled rows by scorer, and why a scorer has none."""
    _, entities = np.unique(rows.entities, return_inverse=True)
    if label.classes is None:
        values = Predictions(rows.predictions.astype(np.float64), None)
        y = rows.labels.astype(np.float64)
        return scores_with_reasons(recipe, predicted(values, None), y, entities)
    classes = list(label.classes)
    by_name = {str(each): each for each in classes}
    kind = np.int64 if isinstance(classes[0], int) else object
    texts = (_as_classes(rows.predictions, by_name), _as_classes(rows.labels, by_name))
    if new := {text for part in texts for text in part} - by_name.keys():
        why = f"{min(new)!r} is not one of the version's classes"
        return {}, dict.fromkeys(recipe.scoring, why)
    given, y = (np.array([by_name[text] for text in part], kind) for part in texts)
    model = predicted(Predictions(given, rows.probabilities), classes)
    return scores_with_reasons(recipe, model, y, entities)


def _as_classes(texts: Texts, by_name: Mapping[str, object]) -> list[str]:
    """Return labels as classes are named: a flag is 0 or 1 where the model has no such class."""
    return [text if text in by_name else _FLAGS.get(text, text) for text in texts.tolist()]

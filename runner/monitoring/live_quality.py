"""How good the served predictions were: the recipe's scorers on the labels that came back.

An outcome model in dbt has each served row whose label is due, with the label by the same
definition that the model was trained on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from contract.bundle import Bundle
from runner.errors import RunnerError
from runner.modelling.bootstrap import Interval
from runner.monitoring.labelled_rows import LabelledRows
from runner.monitoring.live_scores import Judge, LiveScore
from runner.monitoring.live_slices import LiveSlice, live_slices, slice_columns
from runner.monitoring.outcome_rows import OutcomeRows
from runner.monitoring.reliability import ReliabilityBin, reliability
from runner.monitoring.served_log import WINDOW, Window
from runner.project.manifest import Manifest
from runner.warehouse.log_sql import LogReader, NoTableError

if TYPE_CHECKING:
    from runner.recipes.recipe import Recipe

_BUILD = "run `dbt build --select stg_serving__predictions+`"


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
    slices
        The champion's rows by the values of the recipe's slices.
    unsliced
        Slice → why it is not known.
    reason
        Why none of this is known; empty: it is known.
    reliability
        How often the champion's probabilities of the positive class came true, in the window.
    """

    labelled: int = 0
    not_due: int = 0
    without: int = 0
    scores: tuple[LiveScore, ...] = ()
    slices: tuple[LiveSlice, ...] = ()
    unsliced: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    reliability: tuple[ReliabilityBin, ...] = ()


def live_quality(
    reader: LogReader,
    window: Window,
    manifest: Manifest,
    recipe: Recipe,
    bundle: Bundle,
    answered: Sequence[tuple[str, bool]],
) -> LiveQuality:
    """Return the scores of the labelled rows, or why there are none.

    Parameters
    ----------
    bundle
        The champion's.
    answered
        The versions that answered in the window, and whether as a shadow.
    """
    predicted = bundle.label.name
    if predicted != recipe.label:
        return LiveQuality(reason=f"the champion predicts {predicted}, the recipe {recipe.label}")
    outcome = manifest.outcome_of(recipe.spine, recipe.label)
    if outcome is None:
        return LiveQuality(reason=f"dbt has no outcome model for {recipe.spine}.{recipe.label}")
    outcomes = OutcomeRows(reader, window, outcome, bundle.label)
    judge = Judge(recipe, bundle.label)
    columns, unsliced = slice_columns(recipe, bundle, outcome)
    scores: list[LiveScore] = []
    slices: list[LiveSlice] = []
    came_true: tuple[ReliabilityBin, ...] = ()
    try:
        labelled = outcomes.count()
        for version, is_shadow in answered:
            is_champion = (version, is_shadow) == (window.version, False)
            if is_shadow:
                rows = outcomes.shadow_rows(version)
            else:
                rows = outcomes.rows(version, columns if is_champion else ())
            scores += _scores(judge, version, rows, is_shadow=is_shadow, by_day=is_champion)
            if is_champion:
                slices += live_slices(judge, outcomes, columns, rows)
                came_true = reliability(judge, rows)
    except NoTableError:
        return LiveQuality(reason=f"dbt has not built {outcome.name}: {_BUILD}")
    except RunnerError as err:  # the table lacks a column
        return LiveQuality(reason=err.message)
    due, not_due = outcomes.due()
    if due and outcomes.is_empty():
        reason = f"{outcome.name} has no rows though {due:,} are due: {_BUILD}"
        return LiveQuality(0, not_due, due, reason=reason)
    without = max(0, due - labelled)
    return LiveQuality(
        labelled,
        not_due,
        without,
        tuple(scores),
        tuple(slices),
        unsliced,
        reliability=came_true,
    )


def _scores(
    judge: Judge, version: str, rows: LabelledRows, *, is_shadow: bool, by_day: bool
) -> Iterator[LiveScore]:
    for day in (WINDOW, *(sorted(set(rows.days)) if by_day else ())):
        of = rows if day == WINDOW else rows.of(rows.days == day)
        found, reasons = judge.scored(of)
        of_scorers: dict[str, tuple[Interval | None, str]] = {
            **{name: (one, "") for name, one in found.items()},
            **{name: (None, why) for name, why in reasons.items()},
        }
        for name, one in of_scorers.items():
            yield LiveScore(version, day, name, len(of.days), *one, is_shadow)

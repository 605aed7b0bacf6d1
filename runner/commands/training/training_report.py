"""What `runner train` produced, as tables or as JSON, and the next command."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from runner import console
from runner.commands.training.training import TrainingResult

_SLICE_COLUMNS = ["slice", "values", "not scored", "lowest", "test rows", "score"]
_INTERVAL = "95% CI"


def show_training(trained: TrainingResult, recipe: Path, *, as_json: bool) -> None:
    """Print the version's scores, where it is worst, and whether it is the champion."""
    if as_json:
        console.result_json(training_json(trained))
    else:
        _show_tables(trained)
    _show_verdict(trained, recipe, as_json=as_json)


def training_json(trained: TrainingResult) -> dict[str, Any]:
    """Return the same facts as the tables, for scripts."""
    scores = {
        name: {"train": a, "test": b, "test_interval": trained.intervals[name]}
        for name, (a, b) in trained.scores.items()
    }
    return {
        "registered_model_name": trained.registered_model_name,
        "version": trained.version,
        "run_id": trained.run_id,
        "scores": scores,
        "decision_threshold": trained.decision_threshold,
        "slices": [asdict(each) for each in trained.slices],
        "is_champion": not trained.refusals,
        "refusals": trained.refusals,
    }


def _show_tables(trained: TrainingResult) -> None:
    console.result_table(
        f"{trained.registered_model_name} version {trained.version}, run {trained.run_id}",
        ["scorer", "training rows", "test rows", _INTERVAL],
        [
            [name, f"{a:.4f}", f"{b:.4f}", "{:.4f} to {:.4f}".format(*trained.intervals[name])]
            for name, (a, b) in trained.scores.items()
        ],
    )
    if trained.decision_threshold is not None:
        console.result(f"decision threshold {trained.decision_threshold:.4g}")
    if trained.slices:
        console.result_table(
            f"Where {next(iter(trained.scores))} is lowest; every slice is in the run's slices.md",
            [*_SLICE_COLUMNS, _INTERVAL],
            [each.cells for each in trained.slices],
        )


def _show_verdict(trained: TrainingResult, recipe: Path, *, as_json: bool) -> None:
    name = trained.registered_model_name
    console.note(f"report, plots and data: runner ui {name}/{trained.version}")
    if not trained.refusals:
        if not as_json:
            console.result("It is the champion now.")
        console.note(f"next: runner materialize {recipe}, then runner serve {recipe}")
        return
    console.warn(f"the challenger, not the champion: {'; '.join(trained.refusals)}")
    if trained.champion:
        console.note(f"look at both: runner compare {name}@champion {name}@challenger")
    else:
        console.note(f"to serve it all the same: runner promote {recipe}")

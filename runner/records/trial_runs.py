"""Each trial of the tuning as an MLflow run below that of its training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow.entities import Metric, Param, RunInfo
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from runner.records.dead_runs import this_process
from runner.records.run_record import Training

if TYPE_CHECKING:
    from datetime import datetime

    from mlflow import MlflowClient

    from runner.modelling.study import Trial


def record_trials(client: MlflowClient, parent: RunInfo, training: Training) -> None:
    """Record the training's trials, if there are any, as finished runs below `parent`."""
    for trial in training.model.tuned.trials:
        run = client.create_run(
            parent.experiment_id,
            start_time=_milliseconds(trial.started_at),
            run_name=f"trial {trial.number}",
            tags={
                MLFLOW_PARENT_RUN_ID: parent.run_id,
                "trial_state": "pruned" if trial.pruned else "complete",
                "study": training.model.tuned.study,
                **this_process(),
            },
        )
        client.log_batch(
            run.info.run_id,
            metrics=_metrics(trial, training.recipe.scoring[0]),
            params=[Param(name, str(value)) for name, value in trial.arguments.items()],
        )
        client.set_terminated(run.info.run_id, end_time=_milliseconds(trial.ended_at))


def _metrics(trial: Trial, scorer: str) -> list[Metric]:
    """Return the score of each fold, as steps of one metric, and the mean if there are all.

    The mean of a pruned trial's first folds would stand among means of other folds.
    """
    at = _milliseconds(trial.ended_at)
    folds = [
        Metric(f"fold_{scorer}", score, at, step) for step, score in enumerate(trial.fold_scores)
    ]
    return folds if trial.pruned else [*folds, Metric(f"mean_{scorer}", trial.score, at, 0)]


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)

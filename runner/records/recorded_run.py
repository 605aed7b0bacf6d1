"""What an MLflow run recorded of its training, read back without loading any model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from contract.computed import ComputedColumn
from contract.model_registry import BUNDLE_FOLDER
from runner.errors import CombinedError, RunnerError
from runner.modelling.model_inputs import ModelColumn, model_columns
from runner.recipes.recipe import Recipe, load_recipe
from runner.records.artifact_names import (
    ENVIRONMENT,
    RECIPE,
    ROWS,
    SQL_DIGESTS,
    TUNING,
)
from runner.records.run_record import AS_SERVED, SCORED

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_SERVING = f"{BUNDLE_FOLDER}/serving.json"


@dataclass(frozen=True)
class RecordedRun:
    """A finished training as its run recorded it.

    Attributes
    ----------
    recipe
        With the arguments that tuning found, if it tuned.
    rows
        Every training row with its features, as they were joined then.
    scores
        Metric name, such as `test_roc_auc`, → score; the decision threshold too, if there is one.
    sql_digests, environment
        As `Manifest.digests` and `environment()` were; None where an older run lacks them.
    """

    run_id: str
    recipe: Recipe
    tags: Mapping[str, str]
    scores: Mapping[str, float]
    join_keys: tuple[str, ...]
    inputs: tuple[ModelColumn, ...]
    rows: pa.Table
    sql_digests: Mapping[str, str] | None
    environment: Mapping[str, str] | None

    @property
    def scored_as_served(self) -> bool:
        """Whether the scores are those of the served model, not of the pipeline itself."""
        return self.tags.get(SCORED) == AS_SERVED


def read_run(client: MlflowClient, run: Run) -> RecordedRun:
    """Return what `run` recorded.

    Raises
    ------
    RunnerError
        If the run did not finish, lacks a file that `runner train` records, or its recipe has
        keys that this version of runner does not know.
    """
    run_id: str = run.info.run_id
    if run.info.status != "FINISHED":
        raise RunnerError(
            f"run {run_id} did not finish ({run.info.status})",
            hint="name a run that was recorded to its end",
        )
    there = {
        file.path for folder in (None, "sql") for file in client.list_artifacts(run_id, folder)
    }
    with TemporaryDirectory() as folder:
        read = _Reader(client, run_id, Path(folder))
        recipe = _recipe(read, run_id)
        if TUNING in there:  # fitting again needs what was found, not another search
            recipe = recipe.with_arguments(read.json(TUNING)["arguments"])
        serving = read.json(_SERVING)
        return RecordedRun(
            run_id=run_id,
            recipe=recipe,
            tags=run.data.tags,
            scores={
                name: run.data.metrics[name]
                for part in ("train", "test")
                for name in (f"{part}_{scorer}" for scorer in recipe.scoring)
            }
            | (
                {"decision_threshold": run.data.metrics["decision_threshold"]}
                if recipe.decision_threshold
                else {}
            ),
            join_keys=tuple(key["name"] for key in serving["entity_keys"]),
            inputs=_inputs(serving),
            rows=pq.read_table(read.file(ROWS)),
            sql_digests=read.json(SQL_DIGESTS) if SQL_DIGESTS in there else None,
            environment=read.json(ENVIRONMENT) if ENVIRONMENT in there else None,
        )


def _inputs(serving: Mapping[str, Any]) -> tuple[ModelColumn, ...]:
    """Return the columns of the model that a bundle's `serving.json` describes."""
    sources = (*serving["features"], *serving.get("request", ()))
    taken = [ModelColumn(one["name"], one["dtype"]) for one in sources]
    computed = [ComputedColumn(**column) for column in serving.get("computed", ())]
    return tuple(model_columns(taken, computed))


class _Reader:
    """A run's artifacts, copied into a folder one by one."""

    def __init__(self, client: MlflowClient, run_id: str, folder: Path) -> None:
        self._client = client
        self._run_id = run_id
        self.folder = folder

    def file(self, name: str) -> Path:
        from mlflow.exceptions import MlflowException

        try:
            return Path(self._client.download_artifacts(self._run_id, name, str(self.folder)))
        except (MlflowException, OSError) as err:  # which of them depends on the artifact store
            raise RunnerError(
                f"run {self._run_id} has no artifact {name}",
                hint="name a run of `runner train` whose artifacts are still there",
            ) from err

    def json(self, name: str) -> Any:
        return json.loads(self.file(name).read_bytes())


def _recipe(read: _Reader, run_id: str) -> Recipe:
    try:
        return load_recipe(read.file(RECIPE), shown_as=Path(run_id, RECIPE))
    except CombinedError as err:
        raise RunnerError(
            err.message,
            hint="check out the git commit of the run, and reproduce it there",
        ) from err

"""The registry's aliases: which version of a registered model is the champion."""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from runner.errors import RunnerError

CHAMPION = "champion"


def version_with(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """Return the model's version with the alias; None if there is none, or no such model."""
    try:
        version = client.get_registered_model(name).aliases.get(alias)
    except MlflowException as err:
        if err.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return None if version is None else client.get_model_version(name, str(version))


def run_of(client: MlflowClient, version: ModelVersion) -> Run:
    """Return the run that trained a version.

    Raises
    ------
    RunnerError
        If it is deleted, or MLflow no longer has it.
    """
    said, again = (
        f"the run of {version.name} version {version.version}",
        "train and promote another",
    )
    try:
        run = client.get_run(version.run_id)
    except MlflowException as err:
        if err.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        raise RunnerError(f"{said}, {version.run_id}, is not in MLflow", hint=again) from err
    if run.info.lifecycle_stage == "deleted":
        raise RunnerError(
            f"{said} is deleted: `mlflow gc` would remove its rows, recipe and model",
            hint=f"`mlflow runs restore --run-id {version.run_id}`, or {again}",
        )
    return run

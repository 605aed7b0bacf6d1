"""The registry's aliases: which version of a registered model is the champion."""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from runner.records.run_facts import CHAMPION, run_deleted, run_missing

__all__ = ["CHAMPION", "run_of", "version_with"]


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
    name, number, run_id = version.name, str(version.version), version.run_id
    try:
        run = client.get_run(run_id)
    except MlflowException as err:
        if err.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        raise run_missing(name, number, run_id) from err
    if run.info.lifecycle_stage == "deleted":
        raise run_deleted(name, number, run_id)
    return run

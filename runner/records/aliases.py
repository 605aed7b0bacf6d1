"""The registry's aliases: which version of a registered model is the champion."""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from runner.records.run_facts import CHAMPION

__all__ = ["CHAMPION", "version_with"]


def version_with(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """Return the model's version with the alias; None if there is none, or no such model."""
    try:
        version = client.get_registered_model(name).aliases.get(alias)
    except MlflowException as err:
        if err.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return None if version is None else client.get_model_version(name, str(version))

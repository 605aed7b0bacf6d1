"""MLflow's registry: the versions of a model, and which of them is the champion.

Imports no model library: `runner promote` answers in the time that MLflow's client takes to load.
"""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from runner.records.run_facts import (
    CHALLENGER,
    CHAMPION,
    RETIRED,
    not_registered,
    run_deleted,
    run_missing,
    versions_filter,
)
from runner.servers.tracking_server import require_tracking_server

if TYPE_CHECKING:
    from runner.settings import Settings

__all__ = ["CHALLENGER", "CHAMPION", "CHAMPION_UNTIL"]

CHAMPION_UNTIL = "champion_until"


def connect(settings: Settings) -> MlflowClient:
    """Return a client of the settings' tracking server; a local one is created if need be.

    Raises
    ------
    ServingError
        If the server does not answer, or refuses us.
    """
    uri = settings.mlflow_tracking_uri
    require_tracking_server(settings)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    # A new database is no news; its tables are MLflow's business.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    # A bar per file, of files that are read in milliseconds, would hide what we say.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    mlflow.set_tracking_uri(uri)
    return MlflowClient()


def require_model(client: MlflowClient, name: str) -> None:
    """Raise unless a model of that name is registered.

    Raises
    ------
    RunnerError
        With the nearest name that is, and all of them.
    """
    try:
        client.get_registered_model(name)
    except MlflowException as err:
        if err.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        names = sorted(model.name for model in client.search_registered_models())
        raise not_registered(name, names) from err


def versions_of(client: MlflowClient, name: str) -> list[ModelVersion]:
    """Return the model's versions, the newest first; none if there is no such model."""
    found: list[ModelVersion] = list(client.search_model_versions(versions_filter(name)))
    return sorted(found, key=lambda version: -int(version.version))


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


def promote(client: MlflowClient, name: str, version: str) -> None:
    """Make `version` the champion: the one that serving and `runner predict` use.

    The tag `champion_until` (ISO 8601, UTC) of the champions before is the history that `rollback`
    goes back in.
    """
    present = version_with(client, name, CHAMPION)
    if present is not None and str(present.version) != version:
        # While it is the champion: wherever this stops, no version has the tag that never was one.
        now = datetime.now(UTC).isoformat()
        client.set_model_version_tag(name, str(present.version), CHAMPION_UNTIL, now)
    client.set_registered_model_alias(name, CHAMPION, version)
    if RETIRED in client.get_model_version(name, version).tags:
        client.delete_model_version_tag(name, version, RETIRED)  # it is protected again
    challenger = version_with(client, name, CHALLENGER)
    if challenger is not None and str(challenger.version) == version:
        client.delete_registered_model_alias(name, CHALLENGER)

"""`runner env`: the project's variables for a shell, so that bare dbt, Feast and MLflow find it."""

from __future__ import annotations

import os
import shlex

from runner.settings import NO_TELEMETRY, Settings, read_env_file


def exports(settings: Settings) -> list[str]:
    """Return an `export NAME=value` line for each variable that this process does not have yet.

    What the process has, and so the user's own secrets, is not repeated.
    """
    wanted = {name: settings.env[name] for name in read_env_file(settings.env_file)}
    wanted |= {"APP_ENV": settings.target, **NO_TELEMETRY, **mlflow_variables(settings)}
    return [
        f"export {name}={shlex.quote(value)}"
        for name, value in wanted.items()
        if os.environ.get(name) != value
    ]


def mlflow_variables(settings: Settings) -> dict[str, str]:
    """Return what MLflow's clients and its own server need to find the project's runs.

    Without the last two, a bare `mlflow server` creates an empty `mlflow.db` in the current folder.
    """
    uri = settings.mlflow_tracking_uri
    if uri.startswith(("http://", "https://")):
        return {"MLFLOW_TRACKING_URI": uri}
    return {
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": (settings.root / "mlruns").as_uri(),
    }

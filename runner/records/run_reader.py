"""Open whatever keeps the runs, without MLflow's own client where possible: it takes seconds.

A SQLite file is read with the standard library, a server through its REST API. Only another kind
of tracking store, and artifacts in a cloud's bucket, are left to MLflow.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contract.mlflow_http import MlflowServer
from runner.records.http_reader import HttpReader
from runner.records.run_facts import RunFacts, RunReader, no_artifact, not_registered
from runner.records.sqlite_reader import SqliteReader
from runner.servers.tracking_server import require_tracking_server

if TYPE_CHECKING:
    from runner.settings import Settings


def open_reader(settings: Settings) -> RunReader:
    """Return a reader of the settings' tracking store.

    Raises
    ------
    ServingError
        If it is a server that does not answer, or refuses us.
    """
    uri = settings.mlflow_tracking_uri
    require_tracking_server(settings)
    if uri.startswith("sqlite:///"):
        return SqliteReader(Path(uri.removeprefix("sqlite:///")))
    if uri.startswith(("http://", "https://")):
        return HttpReader(MlflowServer(uri, settings.env))
    from runner.records.client_reader import ClientReader

    return ClientReader(settings)


def require_registered(reader: RunReader, name: str) -> None:
    """Raise unless a model of that name is registered.

    Raises
    ------
    RunnerError
        With the nearest name that is, and all of them.
    """
    names = reader.models()
    if name not in names:
        raise not_registered(name, names)


def read_json(reader: RunReader, run: RunFacts, path: str) -> dict[str, Any]:
    """Return the content of one JSON file of the run's artifacts.

    Raises
    ------
    RunnerError
        If it is not there, or not JSON.
    """
    try:
        content: dict[str, Any] = json.loads(reader.artifact(run, path))
    except ValueError as err:
        raise no_artifact(run, path) from err
    return content

"""Is the MLflow server there? Asked without MLflow, whose own client tries for minutes."""

from __future__ import annotations

from contract.mlflow_http import MlflowServer
from runner.settings import Settings


def require_tracking_server(settings: Settings) -> None:
    """Return if MLflow is a server that answers and lets us in, or no server at all.

    Raises
    ------
    ServingError
        If the server does not answer, or refuses us.
    """
    uri = settings.mlflow_tracking_uri
    if uri.startswith(("http://", "https://")):
        MlflowServer(uri, settings.env).require()

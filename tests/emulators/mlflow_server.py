"""A real MLflow server for the tests, with a database of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import free_port
from tests.emulators.processes import answers_http, running

_BASIC_AUTH = """
[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/basic_auth.db
admin_username = admin
admin_password = {password}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


@contextmanager
def mlflow_server(
    folder: Path, artifacts: str, env: Mapping[str, str] | None = None, password: str = ""
) -> Iterator[str]:
    """Keep a server running that hands artifacts on to `artifacts`; the value is its address.

    With a `password`, at least 12 characters, it lets only the user `admin` in.
    """
    uri = f"http://127.0.0.1:{free_port()}"
    store = ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    proxy = ["--serve-artifacts", "--artifacts-destination", artifacts]
    address = ["--host", "127.0.0.1", "--port", uri.rpartition(":")[2], "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "server", *store, *proxy, *address]
    variables = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", **(env or {})}
    if password:
        command += ["--app-name", "basic-auth"]
        config = folder / "basic_auth.ini"
        config.write_text(_BASIC_AUTH.format(folder=folder, password=password))
        variables |= {"MLFLOW_AUTH_CONFIG_PATH": str(config)}
        variables |= {"MLFLOW_FLASK_SERVER_SECRET_KEY": "of-a-test"}
    with running(command, folder, lambda: answers_http(f"{uri}/health"), variables):
        yield uri

"""The MLflow server as deploy/ deploys it, with Cloud SQL's place taken by PostgreSQL."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from runner.settings import PostgresAddress
from tests.conftest import free_port
from tests.deploy.stacks import Stack, declared
from tests.emulators.processes import answers_http, running

pytestmark = [pytest.mark.cloud, pytest.mark.servers, pytest.mark.timeout(300)]

PASSWORD = "a-password-of-this-test"


def _url(database: PostgresAddress) -> str:
    login = f"{database.user}:{database.password}@{database.host}:{database.port}"
    return f"postgresql://{login}/{database.database}"


def _login_file(stack: Stack, database: PostgresAddress) -> str:
    """Return the file of the deployment's secret `mlflow-auth`, of our database and password."""
    text = stack.secret("mlflow-auth")
    [deployed] = [line for line in text.splitlines() if line.startswith("database_uri")]
    [admin] = [line for line in text.splitlines() if line.startswith("admin_password")]
    text = text.replace(deployed, f"database_uri = {_url(database)}")
    return text.replace(admin, f"admin_password = {PASSWORD}")


def test_runs_and_users_lie_in_postgresql_behind_a_password(
    new_database: Callable[[], PostgresAddress], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, users = new_database(), new_database()
    stack = declared(tmp_path / "stack")
    (tmp_path / "basic_auth.ini").write_text(_login_file(stack, users))
    [container] = stack.one("tracking").inputs["template"]["containers"]
    port = free_port()
    here = {"0.0.0.0": "127.0.0.1", "8080": str(port)}
    options = [here.get(option, option) for option in container["args"]]
    variables = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": _url(runs),
        "MLFLOW_ARTIFACTS_DESTINATION": str(tmp_path / "artifacts"),
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"127.0.0.1:{port}",
        "MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "basic_auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of-a-test",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", *options]
    with running(command, tmp_path / "server", lambda: answers_http(f"{url}/health"), variables):
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong-password")
        with pytest.raises(MlflowException, match="401"):
            MlflowClient(url).search_experiments()
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
        MlflowClient(url).create_experiment("kept")
    with psycopg.connect(**runs.conninfo) as connection:
        kept = connection.execute("select name from experiments where name = 'kept'").fetchall()
    with psycopg.connect(**users.conninfo) as connection:
        admins = connection.execute("select username from users where is_admin").fetchall()
    assert (kept, admins) == ([("kept",)], [("admin",)])

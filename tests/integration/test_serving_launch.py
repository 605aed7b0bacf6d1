"""`runner serve`: what is given counts, and else what the environment or the profile says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runner.cli import app

_PROFILE = """\
PGHOST=127.0.0.1
PGPORT=5432
PGUSER=runner
PGPASSWORD=runner
PGDATABASE=shop
REDIS_URL=nonsense
MLFLOW_TRACKING_URI=sqlite:///none.db
"""


@pytest.mark.parametrize(
    ("options", "environment", "profile", "told"),
    [
        ([], {"SERVING_PORT": "http"}, "", "SERVING_PORT='http' is not a whole number"),
        ([], {}, "SERVING_HOST=0.0.0.0", "refusing to listen on 0.0.0.0 without an API key"),
        (["--host", "::"], {"SERVING_HOST": "0.0.0.0"}, "", "refusing to listen on :: without"),
        (["--port", "0"], {"SERVING_PORT": "http"}, "", "database cannot be read"),
    ],
)
def test_an_address_that_is_not_given_is_the_environments(
    tmp_path: Path, options: list[str], environment: dict[str, str], profile: str, told: str
) -> None:
    (tmp_path / "dbt_project.yml").touch()
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "local.env").write_text(_PROFILE + profile)
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SERVING_", "PG", "REDIS_", "MLFLOW_")) and name != "APP_ENV"
    }
    done = subprocess.run(
        [sys.executable, "-m", "runner", "serve", "m", *options],
        cwd=tmp_path,
        env={**own, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    error, hint = done.stderr.splitlines()
    assert done.returncode == 1
    assert error.startswith("error: ")
    assert told in error
    assert hint.startswith("hint: ")


def test_help_shows_where_it_listens_by_default() -> None:
    shown = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200"}).stdout
    assert "SERVING_HOST, else 127.0.0.1" in shown
    assert "SERVING_PORT, else 8000" in shown


def test_a_uvicorn_without_the_hook_is_refused_in_one_sentence(tmp_path: Path) -> None:
    code = (
        "from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol\n"
        "del HttpToolsProtocol._start_asgi_task\n"
        "from serving.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    error, hint = done.stderr.splitlines()
    assert done.returncode == 1
    assert error.startswith("error: this version of uvicorn has no")
    assert hint == "hint: install the version in requirements.lock"

"""`runner ui` and `runner env`: MLflow's own server and client find the project's runs."""

import json
import signal
import socket
import subprocess
import sys
from urllib.request import urlopen

import psutil
import pytest
from mlflow import MlflowClient

from runner.commands.models.tracking_ui import show_runs
from runner.commands.project.shell_environment import exports
from runner.errors import RunnerError
from runner.markup import page, table
from runner.records.run_report import REPORT
from runner.settings import read_settings
from tests.browser import CHROMIUM
from tests.browser import page as browser_page
from tests.conftest import free_port

pytestmark = pytest.mark.servers
ENV_FILE = """\
PGHOST=127.0.0.1
PGPORT=5432
PGUSER=runner
PGPASSWORD=it's secret
PGDATABASE=runner
REDIS_URL=redis://127.0.0.1:1/0
MLFLOW_TRACKING_URI=sqlite:///mlruns/mlflow.db
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a project's folder with one run, and the run."""
    root = tmp_path_factory.mktemp("a folder")
    (root / "dbt_project.yml").write_text("name: shop\n")
    (root / "profiles").mkdir()
    (root / "profiles" / "local.env").write_text(ENV_FILE)
    (root / "mlruns").mkdir()
    uri = f"sqlite:///{root / 'mlruns/mlflow.db'}"
    client = MlflowClient(uri, uri)
    experiment = client.create_experiment("e", (root / "mlruns" / "e").as_uri())
    run = client.create_run(experiment)
    client.log_text(run.info.run_id, "seen", "notes.txt")
    shown = page("The report", table(["scorer"], [["roc_auc 0.7746"]]))
    client.log_text(run.info.run_id, shown, REPORT)
    client.set_terminated(run.info.run_id)
    return root, run


@pytest.fixture
def bare(monkeypatch):
    """Take the project's variables from the environment."""
    for line in ENV_FILE.splitlines():
        monkeypatch.delenv(line.partition("=")[0], raising=False)


def read(url):
    with urlopen(url, timeout=30) as answer:
        return answer.read()


def see_report(url, folder):
    """Open the run's report in MLflow's pages, and take a picture."""
    with browser_page(folder) as mlflow_page:
        mlflow_page.open(f"{url}/artifacts/{REPORT}?workflowType=machine_learning")
        mlflow_page.wait_for_in_frame("roc_auc 0.7746")
        mlflow_page.picture(folder / "mlflow.png")


def test_ui_serves_the_page_of_a_run_and_leaves_nothing_behind(project, bare, tmp_path):
    root, run = project
    run_id, port = run.info.run_id, free_port()
    command = [sys.executable, "-m", "runner", "ui", run_id, "--port", str(port)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as ui:
        try:
            url = ui.stdout.readline().strip()
            started = psutil.Process(ui.pid).children(recursive=True)
            base, _, page = url.partition("#")
            assert base == f"http://127.0.0.1:{port}/"
            experiment = run.info.experiment_id
            assert page == f"/experiments/{experiment}/runs/{run_id}?workflowType=machine_learning"
            found = json.loads(read(f"{base}api/2.0/mlflow/runs/get?run_id={run_id}"))
            assert found["run"]["info"]["run_id"] == run_id
            assert read(f"{base}get-artifact?path=notes.txt&run_uuid={run_id}") == b"seen"
            if CHROMIUM is not None:
                see_report(f"{base}#/experiments/{experiment}/runs/{run_id}", tmp_path)
        finally:
            ui.send_signal(signal.SIGTERM)
        assert ui.wait(timeout=60) == 0
    assert started
    _, left = psutil.wait_procs(started, timeout=30)
    assert left == []
    assert sorted(path.name for path in root.iterdir()) == ["dbt_project.yml", "mlruns", "profiles"]


def test_bare_mlflow_finds_the_runs_after_env(project, bare, tmp_path):
    root, run = project
    script = f"""
        cd '{root}' && eval "$({sys.executable} -m runner env)" && cd '{tmp_path}'
        test "$PGPASSWORD" = "it's secret" || exit 3
        {sys.executable} -m mlflow runs describe --run-id {run.info.run_id}
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["info"]["run_id"] == run.info.run_id
    assert list(tmp_path.iterdir()) == []  # without the variables MLflow creates an mlflow.db


def test_env_leaves_out_what_the_environment_has(project, bare, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "of the user")
    lines = exports(read_settings("local", project[0]))
    assert f"export MLFLOW_BACKEND_STORE_URI='sqlite:///{project[0]}/mlruns/mlflow.db'" in lines
    assert "export PGHOST=127.0.0.1" in lines
    assert "of the user" not in "".join(lines)


def test_a_server_is_only_named(project, bare, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example/")
    settings = read_settings("local", project[0])
    show_runs(settings, None, 1)
    assert capsys.readouterr().out == (
        "https://mlflow.example/#/experiments?workflowType=machine_learning\n"
    )
    assert "MLFLOW_BACKEND_STORE_URI" not in "".join(exports(settings))


def test_a_taken_port_and_a_project_without_runs_are_refused(project, bare, monkeypatch):
    settings = read_settings("local", project[0])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RunnerError, match=f"cannot listen on 127.0.0.1:{port}"):
            show_runs(settings, None, port)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere.db")
    with pytest.raises(RunnerError, match=r"elsewhere\.db: no such file"):
        show_runs(read_settings("local", project[0]), None, free_port())
    assert not (project[0] / "elsewhere.db").exists()

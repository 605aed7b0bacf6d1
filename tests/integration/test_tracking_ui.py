"""`runner ui` and `runner env`: MLflow's own server and client find the project's runs."""

import json
import signal
import socket
import subprocess
import sys
from urllib.request import urlopen

import psutil
import pytest

from runner.commands.models.tracking_ui import show_runs
from runner.commands.project.shell_environment import exports
from runner.errors import RunnerError
from runner.records import registry
from runner.records.run_report import REPORT
from runner.records.tracking import record
from runner.settings import read_settings
from tests.browser import CHROMIUM
from tests.browser import page as browser_page
from tests.conftest import free_port
from tests.modelling import make_recipe
from tests.trainings import train

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
    """Return a project's folder, a run as `runner train` records it, and its training."""
    root = tmp_path_factory.mktemp("a folder")
    for name in ("profiles", "recipes"):
        (root / name).mkdir()
    (root / "profiles" / "local.env").write_text(ENV_FILE)
    training = train(root, make_recipe(root / "recipes" / "m.yaml"))
    client = registry.connect(training.prepared.settings)
    run_id, _ = record(client, training, tmp_path_factory.mktemp("artifacts"))
    client.log_text(run_id, "seen", "notes.txt")
    return root, client.get_run(run_id), training


@pytest.fixture
def bare(monkeypatch):
    """Take the project's variables from the environment."""
    for line in ENV_FILE.splitlines():
        monkeypatch.delenv(line.partition("=")[0], raising=False)


def read(url):
    with urlopen(url, timeout=30) as answer:
        return answer.read()


def see_run(url, training, folder):
    """Open the run's overview and its report in MLflow's pages, and take pictures."""
    score = f"{training.model.evaluation.test['roc_auc']:.4f}"
    with browser_page(folder) as mlflow_page:
        mlflow_page.open(url)
        mlflow_page.click('[data-component-id="mlflow.assistant.chat_panel.close"]', "")
        for text in ("It passed the gate.", score, "0.7000 to 0.9000", "m.yaml"):
            mlflow_page.wait_for(text)
        mlflow_page.picture(folder / "overview.png")
        base, _, of = url.partition("?")
        mlflow_page.open(f"{base}/artifacts/{REPORT}?{of}")
        mlflow_page.wait_for_in_frame(score)
        mlflow_page.picture(folder / "report.png")
    for name in ("overview", "report"):
        assert (folder / f"{name}.png").stat().st_size > 30_000


def test_ui_serves_the_page_of_a_run_and_leaves_nothing_behind(project, bare, tmp_path):
    root, run, training = project
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
                see_run(url, training, tmp_path)
        finally:
            ui.send_signal(signal.SIGTERM)
        assert ui.wait(timeout=60) == 0
    assert started
    _, left = psutil.wait_procs(started, timeout=30)
    assert left == []
    found = {path.name for path in root.iterdir()}
    assert found == {"dbt_project.yml", "mlruns", "profiles", "recipes"}


def test_bare_mlflow_finds_the_runs_after_env(project, bare, tmp_path):
    root, run, _ = project
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

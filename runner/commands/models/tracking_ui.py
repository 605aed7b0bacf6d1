"""`runner ui`: MLflow's pages about the project's runs, on the page that a data scientist wants."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from runner import console
from runner.commands.project.shell_environment import mlflow_variables
from runner.errors import RunnerError
from runner.records.find_run import find_run
from runner.records.run_reader import open_reader
from runner.settings import Settings

_HOST = "127.0.0.1"
_SECONDS = 120
# MLflow's other view is for language models: it opens on traces, of which a training has none.
_VIEW = "?workflowType=machine_learning"


def show_runs(settings: Settings, reference: str | None, port: int) -> None:
    """Print and open the address of a run, or of all; serve it unless a server already does.

    Raises
    ------
    RunnerError
        If there is no such run, or the server does not start.
    """
    page = page_of(settings, reference)
    uri = settings.mlflow_tracking_uri
    if uri.startswith(("http://", "https://")):
        _show(f"{uri.rstrip('/')}/{page}")
        return
    _require_database(uri)
    try:
        with _server(settings, port) as process:
            _show(f"http://{_HOST}:{port}/{page}")
            console.note("Ctrl-C ends")
            process.wait()
    except KeyboardInterrupt:
        console.note("stopped")


def page_of(settings: Settings, reference: str | None) -> str:
    """Return the path of a run's page, as MLflow's addresses end; of all experiments for None."""
    if reference is None:
        return f"#/experiments{_VIEW}"
    run = find_run(open_reader(settings), reference)
    return f"#/experiments/{run.experiment_id}/runs/{run.run_id}{_VIEW}"


def _show(url: str) -> None:
    console.result(url)
    has_screen = sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)
    if sys.stdout.isatty() and has_screen:
        webbrowser.open(url)


def _require_database(uri: str) -> None:
    path = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not path.is_file():
        raise RunnerError(
            f"{path}: no such file, so there is no run yet", hint="run `runner train RECIPE` first"
        )


@contextmanager
def _server(settings: Settings, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Keep MLflow's server running, on loopback; it answers when this yields."""
    _require_free(port)
    env = {**settings.env, **mlflow_variables(settings)}
    # Its jobs judge language models, and cost two processes.
    env["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    command = [sys.executable, "-m", "mlflow", "server", "--host", _HOST, "--port", str(port)]
    options = ["--workers", "1", "--uvicorn-opts", "--log-level warning"]
    process = subprocess.Popen(
        [*command, *options],
        env={"PYTHONWARNINGS": "ignore", **env},
        cwd=settings.root,
        stdout=sys.stderr.fileno(),  # ours is the address alone
        start_new_session=True,  # a group of its own: its workers end with it
    )
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with console.step("mlflow: start its server"):
            _wait_for(process, f"http://{_HOST}:{port}/health")
        yield process
    finally:
        signal.signal(signal.SIGTERM, before)
        with suppress(ProcessLookupError):  # it ended by itself
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as err:
            raise RunnerError(
                f"cannot listen on {_HOST}:{port} ({err.strerror})",
                hint=f"try another: `runner ui --port {port + 1}`",
            ) from err


def _wait_for(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(url, timeout=5):  # noqa: S310  (our own http address)
                return
        except (URLError, OSError):
            time.sleep(0.1)
    raise RunnerError(
        "MLflow's server did not start",
        hint="read its message above; a database of an older MLflow needs "
        '`eval "$(runner env)"`, then `mlflow db upgrade "$MLFLOW_TRACKING_URI"`',
    )

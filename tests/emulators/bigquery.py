"""The BigQuery emulator for the tests: started on free ports, in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_PYTHON = _ROOT / ".venv-emulators" / "bin" / "python"
_LAUNCHER = Path(__file__).with_name("launch_bigquery.py")
_READY_WITHIN_SECONDS = 60


@dataclass(frozen=True)
class Emulator:
    """Where it listens, and its project."""

    url: str
    grpc: str
    project: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead the clients there."""
        return {"BIGQUERY_EMULATOR_HOST": self.url, "GOOGLE_CLOUD_PROJECT": self.project}


@contextmanager
def running(folder: Path, rest_port: int, grpc_port: int) -> Iterator[Emulator]:
    """Keep an empty BigQuery emulator running; all that it writes goes to `folder`."""
    install()
    project = "test-project"
    arguments = ["--rest-port", str(rest_port), "--grpc-port", str(grpc_port)]
    environment = {
        "HOME": str(folder),  # DuckDB looks for its extensions there
        "TMPDIR": str(folder),
        "PATH": os.environ["PATH"],
        "BQEMU_GCS_LOCAL_ROOT": str(folder / "gcs"),
    }
    log_path = folder / "emulator.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [_PYTHON, _LAUNCHER, "start", *arguments, "--project", project],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{rest_port}"
        _wait_until_ready(url, process, log_path)
        yield Emulator(url, f"127.0.0.1:{grpc_port}", project)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def install() -> Path:
    """Return the folder of the emulators' programs, made if `make test` has not made it yet."""
    if not (_PYTHON.parent.parent / ".installed").is_file():
        subprocess.run(["make", ".venv-emulators/.installed"], cwd=_ROOT, check=True, timeout=600)
    return _PYTHON.parent


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_WITHIN_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the BigQuery emulator did not start:\n{log.read_text()[-2000:]}")

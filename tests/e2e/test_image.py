"""What the Dockerfile makes trains and serves: its steps, run in an empty folder.

Docker is not needed. The installed packages stand in for `pip install`, after a check that they are
the lock's; accounts and owners (`useradd`, `chown`) are left out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import free_port
from tests.e2e.conftest import REPOSITORY, Project, Served
from tests.http_process import wait_for_http
from tests.unit.test_dockerfiles import instructions

pytestmark = pytest.mark.servers

STEPS = instructions(REPOSITORY / "Dockerfile")
LEFT_OUT = "useradd() { :; }; chown() { :; }; pip() { :; };"


@pytest.fixture(name="image", scope="module")
def _image(tmp_path_factory: pytest.TempPathFactory, shop: Project) -> Project:
    """The image's /app with its `runner`, bound to the servers and the raw tables of the shop."""
    folder = tmp_path_factory.mktemp("image")
    app, programs = folder / "app", folder / "bin"
    programs.mkdir()
    app.mkdir()
    env = {name: value for name, value in shop.env.items() if name != "PYTHONPATH"}
    env["PATH"] = f"{programs}:{Path(sys.executable).parent}:{env['PATH']}"
    for name, value in STEPS:
        value = value.replace("/usr/local/bin", str(programs)).replace("/app", str(app))
        if name == "COPY":
            _copy(value.split(), app)
        elif name == "ENV":
            pairs = (pair.split("=", 1) for pair in value.split())
            env |= {name: "" if given.startswith("$") else given for name, given in pairs}
        elif name == "RUN":
            subprocess.run(["sh", "-ec", f"{LEFT_OUT} {value}"], cwd=app, env=env, check=True)
    return Project(app, env)


def _copy(paths: list[str], app: Path) -> None:
    """Copy these paths as Docker's context has them: all but what .dockerignore names."""
    *sources, _ = paths
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    ignored = [line for line in lines if line and not line.startswith("#")]
    for source in sources:
        for file in _tracked(source):
            parts = (Path(*file.parts[: n + 1]) for n in range(len(file.parts)))
            if not any(_matches(part, ignored) for part in parts):
                (app / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(REPOSITORY / file, app / file, follow_symlinks=False)


def _tracked(path: str) -> Iterable[Path]:
    """Return the files in git: what a checkout has."""
    listed = subprocess.run(
        ["git", "ls-files", path], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return map(Path, listed.stdout.splitlines())


def _matches(path: Path, patterns: list[str]) -> bool:
    return any(
        fnmatch(path.name, pattern[3:])
        if pattern.startswith("**/")
        else str(path) == pattern or fnmatch(str(path), pattern)
        for pattern in patterns
    )


def test_the_installed_packages_are_those_of_the_lock() -> None:
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()
    pinned = [Requirement(line.rstrip(" \\")) for line in lines if re.match(r"\w", line)]
    assert len(pinned) > 100
    for one in pinned:
        if one.marker is None or one.marker.evaluate():
            assert one.specifier.contains(version(one.name), prereleases=True), one


def test_it_trains_and_answers(image: Project, shop: Project) -> None:
    assert not (image.root / "tests").exists()
    assert not (image.root / "deploy").exists()
    assert list((image.root / "serving").rglob("__pycache__/*.pyc"))
    where = ["python", "-c", "import runner; print(runner.__file__)"]
    found = subprocess.run(
        where, cwd=image.root, env=image.env, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == str(image.root / "runner" / "__init__.py")
    done = subprocess.run(
        ["runner", "train", "recipes/rf.yaml"],
        cwd=image.root,
        env=image.env | {"DBT_EXCLUDE_RESOURCE_TYPES": "test unit_test"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    port = free_port()
    env = image.env | {
        "SERVING_PORT": str(port),
        "SERVING_MODEL": "models:/category_purchase_rf@champion",
        "MLFLOW_TRACKING_URI": f"sqlite:///{image.root}/mlruns/mlflow.db",
    }
    command = ["python", "-m", "serving"]  # as the deployment starts it
    with subprocess.Popen(command, cwd=image.root, env=env, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for_http(server, f"http://127.0.0.1:{port}/ready")
            body = {"entity_rows": [{"user_id": 17, "category_id": 3}]}
            answer = Served(f"http://127.0.0.1:{port}").post("/predict", body)
        finally:
            server.terminate()
    assert answer["model"] == {"name": "category_purchase_rf", "version": "1"}
    assert 0 < answer["predictions"][0]["probabilities"]["1"] < 1
    assert os.access(image.root / "mlruns" / "mlflow.db", os.R_OK)

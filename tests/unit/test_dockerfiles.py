"""The Dockerfiles keep hadolint's rules, and Docker, if installed, accepts the compose files."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from runner.commands.project.new_project import write_project

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "Dockerfile", ROOT / "runner" / "skeleton" / "Dockerfile"]


def instructions(file: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", file.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


@pytest.fixture(name="steps", params=FILES, ids=["shop", "skeleton"])
def _steps(request: pytest.FixtureRequest) -> list[tuple[str, str]]:
    return instructions(request.param)


def values(steps: list[tuple[str, str]], name: str) -> list[str]:
    return [value for found, value in steps if found == name]


def test_the_base_has_a_version(steps: list[tuple[str, str]]) -> None:
    [base] = values(steps, "FROM")
    assert re.fullmatch(r"python:3\.\d+-slim", base)


def test_paths_are_absolute_and_commands_are_lists(steps: list[tuple[str, str]]) -> None:
    assert all(value.startswith("/") for value in values(steps, "WORKDIR"))
    for name in ("ENTRYPOINT", "CMD"):
        [value] = values(steps, name)
        assert isinstance(json.loads(value), list)


def test_nothing_comes_from_elsewhere_than_the_locked_packages(
    steps: list[tuple[str, str]],
) -> None:
    assert values(steps, "ADD") == []
    assert "PIP_NO_CACHE_DIR=1" in " ".join(values(steps, "ENV"))
    for run in values(steps, "RUN"):
        assert not re.search(r"\b(sudo|apt|apt-get|curl|wget|git)\b", run)
        if "pip install" in run:
            assert "--require-hashes" in run or "--no-index" in run
            assert "--no-deps" in run


def test_packages_are_a_layer_of_their_own(steps: list[tuple[str, str]]) -> None:
    everything = steps.index(("COPY", ". ."))
    installs = [at for at, (name, value) in enumerate(steps) if name == "RUN" and "pip " in value]
    assert installs
    assert max(installs) < everything


def test_it_ends_as_a_user_without_rights(steps: list[tuple[str, str]]) -> None:
    names = [name for name, _ in steps]
    assert values(steps, "USER") == ["runner"]
    assert names.index("USER") > max(at for at, name in enumerate(names) if name == "RUN")


def test_our_code_is_compiled_where_the_user_cannot_write_bytecode() -> None:
    steps = instructions(FILES[0])
    [compiled] = [at for at, (_, value) in enumerate(steps) if "compileall" in value]
    assert compiled > steps.index(("COPY", ". ."))
    packages = {"contract", "runner", "serving"}
    assert packages <= set(steps[compiled][1].split())


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
@pytest.mark.parametrize("file", FILES, ids=["shop", "skeleton"])
def test_hadolint_finds_nothing(file: Path) -> None:
    subprocess.run(["hadolint", file], check=True)


def compose() -> bool:
    """Return whether `docker compose` is installed."""
    if shutil.which("docker") is None:
        return False
    done = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.skipif(not compose(), reason="docker compose is not installed")
@pytest.mark.parametrize("is_new", [False, True], ids=["shop", "skeleton"])
def test_docker_compose_accepts_the_file(tmp_path: Path, is_new: bool) -> None:
    if is_new:
        write_project(tmp_path / "project")
    folder = tmp_path / "project" if is_new else ROOT
    command = ["docker", "compose", "-f", "docker-compose.local.yml", "config"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == {"postgres", "redis", "pipeline"}

"""Stacks of the shop: its settings changed, and what the Pulumi program declares for them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-deploy" / "bin" / "python"
# How Pulumi marks what it encrypts (pulumi.runtime.rpc).
_SECRET_MARK, _SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"
PROGRAM = Path(__file__).parent / "program.py"


@dataclass(frozen=True)
class Declared:
    """A resource with its inputs, as Pulumi would send them."""

    kind: str
    name: str
    inputs: Mapping[str, Any]


class Stack:
    """Everything that one `pulumi up` declares."""

    def __init__(self, resources: list[dict[str, Any]]) -> None:
        self.resources = [Declared(r["type"], r["name"], r["inputs"]) for r in resources]

    def all(self, kind: str) -> list[Declared]:
        """Return the resources of a type, such as `cloudrunv2/job:Job`."""
        return [r for r in self.resources if r.kind == f"gcp:{kind}"]

    def secret(self, name: str) -> str:
        """Return the value of a secret, which Pulumi keeps encrypted."""
        data = self.one(f"secret-{name}-value").inputs["secretData"]
        assert data[_SECRET_MARK] == _SECRET, f"{name} is not a secret to Pulumi"
        return str(data["value"])

    def one(self, name: str) -> Declared:
        """Return the resource of this name."""
        [found] = [r for r in self.resources if r.name == name]
        return found


def write_stack(folder: Path, changes: Mapping[str, Any], text: str | None = None) -> Path:
    """Write a project whose settings are the shop's but for `changes`; return its deploy folder."""
    folder.mkdir(exist_ok=True)
    for name in ("recipes", "monitoring"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "Dockerfile", folder)
    deploy = folder / "deploy"
    deploy.mkdir()
    (deploy / "cloud").symlink_to(ROOT / "deploy" / "cloud")
    shutil.copy(ROOT / "deploy" / "__main__.py", deploy)
    settings = yaml.safe_load((ROOT / "deploy" / "Pulumi.prod.yaml").read_text())
    for key, value in changes.items():
        settings["config"][key if ":" in key else f"shop:{key}"] = value
    (deploy / "Pulumi.prod.yaml").write_text(text or yaml.safe_dump(settings, sort_keys=False))
    return deploy


def run_program(deploy: Path) -> subprocess.CompletedProcess[str]:
    """Run the program under mocks."""
    if not PYTHON.is_file():
        pytest.fail(f"{PYTHON} is missing: make .venv-deploy/.installed")
    return subprocess.run(
        [str(PYTHON), str(PROGRAM), "shop", "prod"],
        cwd=deploy,
        capture_output=True,
        text=True,
        check=False,
    )


def declared(folder: Path, **changes: Any) -> Stack:
    """Return what is declared with these settings."""
    done = run_program(write_stack(folder, changes))
    assert done.returncode == 0, done.stderr
    return Stack(json.loads(done.stdout))

"""Do what a page says: its console commands, run as they stand there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path


def commands(page: str) -> list[str]:
    """Return the page's commands in their order, those over several lines joined."""
    blocks = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    return re.findall(r"^\$ ((?:.*\\\n)*.*)$", "".join(blocks), re.MULTILINE)


def before_serving(page: str) -> list[str]:
    """Return the page's commands but those that activate the environment, serve and ask."""
    return [line for line in commands(page) if not re.match("source|runner serve|curl", line)]


def run(folder: Path, lines: list[str], env: dict[str, str]) -> None:
    """Run the lines of a console in `folder`."""
    script = "\n".join(lines)
    done = subprocess.run(
        ["bash", "-ec", script], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"

"""The programs that a release runs on this machine: `pulumi` and `gcloud`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from runner.errors import RunnerError

_PAGES = {
    "pulumi": "https://www.pulumi.com/docs/install/",
    "gcloud": "https://cloud.google.com/sdk/docs/install",
}


def run_tool(folder: Path, *command: str) -> str:
    """Return what a command prints to stdout; shows what it printed if it fails.

    Raises
    ------
    RunnerError
        If the program is not there, or ends with another exit code than 0.
    """
    program = command[0]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as err:
        raise RunnerError(
            f"{program} is not on PATH", hint=f"install it: {_PAGES[program]}"
        ) from err
    if done.returncode != 0:
        sys.stderr.write(done.stdout + done.stderr)
        raise RunnerError(
            f"`{' '.join(command)}` ended with exit code {done.returncode}",
            hint=f"read what {program} printed above",
        )
    return done.stdout

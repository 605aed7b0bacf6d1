"""Which commit of the project a training ran with."""

from __future__ import annotations

import shutil
import subprocess

from runner.settings import Settings


def git_commit(settings: Settings) -> str:
    """Return the commit of the project's folder, marked when it has uncommitted changes.

    Where git does not know, as in the container image, it is what GIT_COMMIT says.
    """
    told = settings.env.get("GIT_COMMIT", "")
    if shutil.which("git") is None:
        return told or "git is not installed"
    git = ["git", "-C", str(settings.root)]
    commit = subprocess.run(
        [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    if commit.returncode:
        return told or "not a git checkout"
    status = subprocess.run(
        [*git, "status", "--porcelain"], capture_output=True, text=True, check=False
    )
    return commit.stdout.strip() + ("-dirty" if status.stdout else "")

"""What `runner check` found, a line for each mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from runner import console
from runner.errors import RunnerError


def show_problems(checked: Mapping[Path, Sequence[RunnerError]]) -> None:
    """Print each recipe's mistakes with their hints, or `OK`."""
    for path, problems in checked.items():
        for problem in problems:
            console.result(f"{problem.message}\n  hint: {problem.hint}")
        if not problems:
            console.result(f"{path}: OK")

"""What `runner check` found, a line for each mistake, or as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from runner import console
from runner.errors import RunnerError


def show_problems(checked: Mapping[Path, Sequence[RunnerError]], *, as_json: bool) -> None:
    """Print each recipe's mistakes with their hints, or `OK`."""
    if as_json:
        console.result_json(
            [
                {
                    "path": str(path),
                    "ok": not problems,
                    "problems": [{"message": one.message, "hint": one.hint} for one in problems],
                }
                for path, problems in checked.items()
            ]
        )
        return
    for path, problems in checked.items():
        for problem in problems:
            console.result(f"{problem.message}\n  hint: {problem.hint}")
        if not problems:
            console.result(f"{path}: OK")

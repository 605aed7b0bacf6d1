"""CPU time of the quick commands, against an import that every data program pays.

    python -m benchmarks.commands                      a project of `runner init`, trained twice
    python -m benchmarks.commands --project . --recipe recipes/rf.yaml
                                                       yours, trained and materialized, servers up:
                                                       only what changes nothing in it
    … --project . --train                              and the training, a new version each time

CPU is user and system time of the whole process tree, dbt included. "First" is the first call
after a change of the project (nothing of what runner keeps under target/runner/), "warm" the least
of the calls after it. The unit is `python -c 'import pandas, pyarrow'`, measured in the same run.
A training's unit is the import of the libraries it needs; dbt builds nothing in it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.training_cpu import FIT, IMPORTS
from runner.recipes.recipe import load_recipe

_UNIT = [sys.executable, "-c", "import pandas, pyarrow"]
_BIN = Path(sys.executable).parent
_FAILED_ALLOWED = {"doctor"}  # another program may listen at the serving port


@dataclass(frozen=True)
class Measured:
    """A trained and materialized project to measure in."""

    root: Path
    recipe: str
    env: Mapping[str, str]
    is_ours: bool = False

    @property
    def model(self) -> str:
        """The name of the recipe's registered model."""
        return load_recipe(self.root / self.recipe).registered_model_name

    def commands(self) -> dict[str, list[str]]:
        """Return command → arguments, of those that only read."""
        return {
            "check": ["check", self.recipe],
            "compare": ["compare", f"{self.model}@champion", f"{self.model}/1"],
            "lineage": ["lineage", self.recipe],
            "audit": ["audit", self.recipe],
            "plan": ["plan", self.recipe],
            "doctor": ["doctor"],
        }

    def moves(self) -> dict[str, tuple[list[str], list[str]]]:
        """Return command → what comes before it, and its arguments: both move the champion."""
        first, second = (["promote", self.model, number] for number in "12")
        return {"promote": (first, second), "rollback": (second, ["rollback", self.model])}

    def run(self, *arguments: str) -> float:
        """Run `runner` with the arguments; return its CPU seconds."""
        fine = {0, 1} if arguments[0] in _FAILED_ALLOWED else {0}
        return _cpu([str(_BIN / "runner"), *arguments], self.root, self.env, fine)


def main() -> None:
    arguments = _arguments()
    if arguments.project:
        project = Measured(Path(arguments.project), arguments.recipe, dict(os.environ))
        _measure(project, arguments.repeat)
        if arguments.train:
            _measure_training(project, arguments.repeat)
        return
    with _new_project() as project:
        _measure(project, arguments.repeat)
        _measure_training(project, arguments.repeat)


def _measure(project: Measured, repeat: int) -> None:
    unit = min(_cpu(_UNIT, project.root, project.env) for _ in range(repeat + 1))
    print(f"unit: {unit:.2f} s of CPU\n")
    print("| command | first, CPU s | warm, CPU s | warm, times the unit |")
    print("|---|---|---|---|")
    for name, command in project.commands().items():
        shutil.rmtree(project.root / "target" / "runner", ignore_errors=True)
        first = project.run(*command)
        warm = min(project.run(*command) for _ in range(repeat))
        _print_row(name, first, warm, unit)
    for name, (before, command) in project.moves().items() if project.is_ours else ():
        found = []
        for _ in range(repeat + 1):
            project.run(*before)
            found.append(project.run(*command))
        _print_row(name, found[0], min(found[1:]), unit)


def _measure_training(project: Measured, repeat: int) -> None:
    """Print what a warm training costs by act, and outside `fit` in imports of what it needs."""
    imports = [sys.executable, "-c", f"import {', '.join(IMPORTS)}"]
    env = {**project.env, "PYTHONPATH": str(Path(__file__).parents[1])}
    train = [sys.executable, "-m", "benchmarks.training_cpu", project.recipe]
    units, trainings = [], []
    for _ in range(repeat):  # in turn: other work on the machine slows both
        units.append(_cpu(imports, project.root, project.env))
        trainings.append(json.loads(_output(train, project.root, env)))
    acts = min(trainings, key=_outside_fit)
    print("\n| act of `runner train` | CPU s |")
    print("|---|---|")
    for name, cpu in acts.items():
        print(f"| {name} | {cpu:.2f} |")
    outside, unit = _outside_fit(acts), min(units)
    print(
        f"\noutside `fit`: {outside:.2f} s, {outside / unit:.2f} times the imports ({unit:.2f} s)"
    )


def _outside_fit(acts: Mapping[str, float]) -> float:
    return sum(cpu for name, cpu in acts.items() if name != FIT)


def _print_row(name: str, first: float, warm: float, unit: float) -> None:
    print(f"| {name} | {first:.2f} | {warm:.2f} | {warm / unit:.1f} |", flush=True)


def _output(
    command: Sequence[str], cwd: Path, env: Mapping[str, str], fine: set[int] | None = None
) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode not in (fine or {0}):
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def _cpu(
    command: Sequence[str], cwd: Path, env: Mapping[str, str], fine: set[int] | None = None
) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _output(command, cwd, env, fine)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@contextmanager
def _new_project() -> Iterator[Measured]:
    """Make a project with servers of its own, train and materialize its recipe."""
    with tempfile.TemporaryDirectory(prefix="commands_") as folder:
        root = Path(folder, "shop")
        address = {"PGPORT": str(_free_port()), "REDIS_URL": f"redis://127.0.0.1:{_free_port()}/0"}
        project = Measured(root, "recipes/reorder.yaml", {**os.environ, **address}, True)
        _cpu([str(_BIN / "runner"), "init", str(root)], Path(folder), project.env)
        try:
            project.run("up")
            _cpu([str(_BIN / "dbt"), "seed", "--target", "local"], root, project.env)
            project.run("train", project.recipe)
            project.run("train", project.recipe)
            project.run("materialize")
            yield project
        finally:
            project.run("down")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--project", help="folder of a trained project; default: a new one")
    parser.add_argument("--recipe", default="recipes/rf.yaml", help="its recipe")
    parser.add_argument("--train", action="store_true", help="train there too")
    parser.add_argument("--repeat", type=int, default=3, help="calls of each; the least counts")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Registered versions and runs, as a table or as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runner import console
from runner.commands.models.registered import RegisteredVersion

if TYPE_CHECKING:
    from runner.records.run_facts import RunFacts


def show_versions(found: Sequence[RegisteredVersion], *, as_json: bool) -> None:
    """Print each version with its aliases, its recipe, and what its training scored."""
    if as_json:
        console.result_json([version_json(each) for each in found])
    elif found:
        columns = ["version", "alias", "trained (UTC)", "recipe", "test scores"]
        console.result_table("", columns, [_version_row(each) for each in found])
    else:
        console.result("no model is registered: `runner train` registers one")


def show_runs(found: Sequence[RunFacts], *, as_json: bool) -> None:
    """Print each run with its state, its recipe and its scores."""
    if as_json:
        console.result_json([run_json(run) for run in found])
    elif found:
        columns = ["run", "started (UTC)", "status", "recipe", "test scores"]
        console.result_table("", columns, [[run.run_id, *_run_cells(run)] for run in found])
    else:
        console.result("no run is recorded: `runner train` records one")


def version_json(found: RegisteredVersion) -> dict[str, Any]:
    """Return the version and its run; the run is null where MLflow no longer has it."""
    version = found.version
    return {
        "name": version.name,
        "version": version.version,
        "aliases": list(version.aliases),
        "run": None if found.run is None else run_json(found.run),
    }


def run_json(run: RunFacts) -> dict[str, Any]:
    """Return the run with its time as ISO 8601."""
    return {
        "run_id": run.run_id,
        "started": None if run.started is None else run.started.isoformat(),
        "status": run.status,
        "recipe": run.tags.get("recipe"),
        "test_scores": run.scores,
    }


def _version_row(found: RegisteredVersion) -> list[str]:
    version, run = found.version, found.run
    begin = [f"{version.name}/{version.version}", ", ".join(version.aliases)]
    if run is None:
        return [*begin, "", "its run is not in MLflow", ""]
    return [*begin, _time(run), run.tags.get("recipe", ""), _scores(run.scores)]


def _run_cells(run: RunFacts) -> list[str]:
    return [_time(run), run.status.lower(), run.tags.get("recipe", ""), _scores(run.scores)]


def _time(run: RunFacts) -> str:
    return "" if run.started is None else f"{run.started:%Y-%m-%d %H:%M}"


def _scores(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {score:.4f}" for name, score in scores.items())

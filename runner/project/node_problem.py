"""What is wrong with a dbt model, and where its YAML says it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from runner.errors import RunnerError
from runner.project.manifest_file import ManifestNode, file_of, view_name
from runner.project.yaml_lines import place_of


class NodeProblem(NamedTuple):
    """What is wrong, and what to do; `keys` lead to it from the dbt model down (`place_of`)."""

    keys: tuple[str, ...]
    message: str
    hint: str


def node_error(root: Path, node: ManifestNode, problem: NodeProblem) -> RunnerError:
    """Return the error that says `file:line: dbt model: message`."""
    place = place_of(root, file_of(node), node["name"], problem.keys)
    return RunnerError(f"{place}: {view_name(node)}: {problem.message}", hint=problem.hint)

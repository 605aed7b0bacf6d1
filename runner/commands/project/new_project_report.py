"""What `runner init` wrote, and the commands from there to a prediction."""

from __future__ import annotations

import shlex
from pathlib import Path

from runner import console
from runner.commands.project.new_project import NewProject

_NEXT = (
    "runner up",
    "dbt seed --target local",
    "runner train recipes/reorder.yaml",
    "runner materialize recipes/reorder.yaml",
    "runner serve recipes/reorder.yaml",
)


def show_project(project: NewProject, folder: Path) -> None:
    """Print where the project is, its ports if they are not the usual ones, and what to run."""
    console.result(f"project {project.name} written to {folder.resolve()}")
    if project.moved:
        console.note(
            f"ports: PostgreSQL {project.postgres_port}, Redis {project.redis_port}, as other "
            "programs use the usual ones (profiles/local.env)"
        )
    away = [] if folder.resolve() == Path.cwd() else [f"cd {shlex.quote(str(folder))}"]
    console.note("\n".join(["next:", *(f"  {command}" for command in (*away, *_NEXT))]))

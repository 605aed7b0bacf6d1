"""`runner init`: a new project that trains and serves at once, from the files in `skeleton/`."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from runner.errors import RunnerError
from runner.recipes.schema import recipe_schema

SKELETON = Path(__file__).parents[2] / "skeleton"
_POSTGRES, _REDIS = 5432, 6379
_WITH_PORTS = {"profiles", "docker-compose.local.yml"}
# Those on this machine; inside a container the usual ones stay.
_PORT = re.compile(r"(?<=['=-])5432|(?<=-)6379|(?<=127\.0\.0\.1:)6379")
_TOKEN = "PROJECT_NAME"  # noqa: S105  (no secret)
# A leading dot would hide it from the build of the package, and make git obey it there.
_DOTTED = {
    name: f".{name}"
    for name in ("dockerignore", "github", "gitignore", "pre-commit-config.yaml", "sqlfluff")
}
# So that a bare `dbt` and `feast -c feature_repo` find them. Packages hold no links.
_LINKS = {
    "profiles.yml": "profiles/profiles.yml",
    "feature_repo/feature_store.yaml": "../profiles/feature_store.local.yaml",
}
# PostgreSQL cuts longer names of databases off.
_NAME = "[a-z][a-z0-9_]{0,62}"
_PACKAGES = {"dbt", "dbt_postgres", "dbt_bigquery"}


@dataclass(frozen=True)
class NewProject:
    """A project that was written: its name, and the ports of its PostgreSQL and Redis."""

    name: str
    postgres_port: int
    redis_port: int

    @property
    def ports(self) -> dict[str, str]:
        """The usual port → the project's."""
        return {str(_POSTGRES): str(self.postgres_port), str(_REDIS): str(self.redis_port)}

    @property
    def moved(self) -> bool:
        """Whether a usual port was taken, so that `profiles/` names another."""
        return any(usual != port for usual, port in self.ports.items())


def write_project(folder: Path) -> NewProject:
    """Write a project into `folder`, new or empty.

    Its name is the folder's in lower case, with `_` for what dbt takes in no name. Where a program
    listens at PostgreSQL's or Redis' usual port, perhaps for another project, the profiles name a
    free one.

    Raises
    ------
    RunnerError
        If the folder has files, is none, has no name that fits, or cannot be written; nothing is
        written then.
    """
    name = _project_name(folder)
    _require_empty(folder)
    project = NewProject(name, _free_port(_POSTGRES), _free_port(_REDIS))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Written beside it and put in place when it is whole.
        with TemporaryDirectory(dir=folder.resolve().parent, prefix=".init-") as beside:
            whole = Path(beside, "project")
            _write_all(whole, project)
            folder.mkdir(exist_ok=True)  # not replaced: a shell may stand in it
            for path in whole.iterdir():
                path.rename(folder / path.name)
    except OSError as err:
        raise RunnerError(
            f"{folder} cannot be written: {err.strerror}; nothing was written",
            hint="name a folder where you may write",
        ) from err
    return project


def _write_all(folder: Path, project: NewProject) -> None:
    for path in sorted(SKELETON.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            relative = path.relative_to(SKELETON)
            text = path.read_text(encoding="utf-8").replace(_TOKEN, project.name)
            if relative.parts[0] in _WITH_PORTS:
                text = _PORT.sub(lambda found: project.ports[found[0]], text)
            _write(folder.joinpath(*(_DOTTED.get(part, part) for part in relative.parts)), text)
    _write(folder / "schemas" / "recipe.schema.json", json.dumps(recipe_schema(), indent=2) + "\n")
    for link, to in _LINKS.items():
        (folder / link).symlink_to(to)


def _project_name(folder: Path) -> str:
    name = re.sub(r"\W", "_", folder.resolve().name.lower(), flags=re.ASCII)
    if name in _PACKAGES:
        raise RunnerError(
            f"{folder}: dbt has a package of its own called {name}",
            hint="name the folder otherwise",
        )
    if re.fullmatch(_NAME, name) is None:
        raise RunnerError(
            f"{folder}: {name!r} is no name for a project",
            hint="name the folder with up to 63 letters, digits and _, the first a letter",
        )
    return name


def _free_port(usual: int) -> int:
    """Return the usual port or, where it is taken, any free one on this machine."""
    for wanted in (usual, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError:
                continue
            port: int = probe.getsockname()[1]
            return port
    return usual


def _require_empty(folder: Path) -> None:
    if folder.is_dir():
        names = [path.name for path in folder.iterdir()]
        found = sorted(names, key=lambda name: (name.startswith("."), name))
        if not found:
            return
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        reason = f"holds {', '.join(found[:5])}{more}"
    elif folder.exists() or folder.is_symlink():
        reason = "is no folder"
    else:
        return
    raise RunnerError(
        f"{folder} {reason}; nothing was written", hint="name a folder that is new or empty"
    )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)

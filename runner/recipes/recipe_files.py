"""Which files are recipes: those of a project, and the one at a path."""

from __future__ import annotations

import re
from pathlib import Path

from runner.errors import RunnerError
from runner.wording import did_you_mean

_FILE_NAME = "[A-Za-z0-9][A-Za-z0-9_.-]*[.]ya?ml"


def require_recipe_file(path: Path) -> None:
    """Raise RunnerError if there is no file at `path`, or if its name is not a recipe's."""
    if not path.is_file():
        raise _no_file(path)
    if re.fullmatch(_FILE_NAME, path.name) is None:
        raise RunnerError(
            f"{path}: not a recipe's file name",
            hint="name a .yaml file of letters, digits, _, - and ., such as recipes/rf.yaml",
        )


def _no_file(path: Path) -> RunnerError:
    """Return the error that names what may have been meant, by `rf` and `rf.yaml` too."""
    folder = path if path.is_dir() else path.parent
    if (folder / "recipes").is_dir():
        folder /= "recipes"
    there = {str(other): other.stem for other in sorted(folder.glob("*.y*ml"))}
    same = [other for other, name in there.items() if name == path.stem]
    meant = f" (did you mean {same[0]!r}?)" if same else did_you_mean(str(path), there)
    return RunnerError(
        f"{path}: a folder, not a recipe" if path.is_dir() else f"{path}: no such file{meant}",
        hint=f"recipes there: {', '.join(there) or 'none'}; `runner new NAME` writes one",
    )


def all_recipes(root: Path) -> list[Path]:
    """Return the recipes in the project's folder `recipes`, as a user would type their paths."""
    folder, here = root / "recipes", Path.cwd()
    return [
        path.relative_to(here) if path.is_relative_to(here) else path
        for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    ]


def require_recipes(root: Path) -> list[Path]:
    """Return the project's recipes; see `all_recipes`.

    Raises
    ------
    RunnerError
        If there is none.
    """
    paths = all_recipes(root)
    if not paths:
        raise RunnerError(f"{root / 'recipes'}: no recipe", hint="`runner help recipe` shows one")
    return paths

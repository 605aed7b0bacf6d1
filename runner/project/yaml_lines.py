"""Where in dbt's YAML something about a dbt model is written: the manifest does not say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def place_of(root: Path, file: str, model: str, keys: Sequence[str]) -> str:
    """Return `file:line` of what `keys` lead to, as far as the YAML has them; `file` if it has not.

    Parameters
    ----------
    file
        The YAML file, relative to `root`.
    keys
        From the dbt model down, such as `columns`, `user_id`, `data_type`; an item of a list is
        named by its `name`.
    """
    return _place(root, file, ("models", model, *keys))


def place_in_source(root: Path, file: str, source: str, keys: Sequence[str]) -> str:
    """Return `file:line` of what `keys`, such as `tables`, `orders`, lead to in a dbt source."""
    return _place(root, file, ("sources", source, *keys))


def _place(root: Path, file: str, keys: Sequence[str]) -> str:
    try:
        node = yaml.compose((root / file).read_text(encoding="utf-8"), _LOADER)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return file
    found = None
    for depth, key in enumerate(keys):
        step = _below(node, key)
        if step is None:
            break
        at, node = step
        found = at.start_mark.line + 1 if depth else None
    return file if found is None else f"{file}:{found}"


def described_at(root: Path, folder: str, model: str) -> str | None:
    """Return `file:line` of the dbt model in the YAML below a folder of dbt models; None if none.

    For one that dbt does not know, as its SQL is missing or has another name.
    """
    try:
        project = yaml.safe_load((root / "dbt_project.yml").read_text(encoding="utf-8"))
        paths = [root / path for path in project.get("model-paths", ["models"])]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, TypeError):
        return None  # dbt says what is wrong with it
    for path in paths:
        for file in sorted(path.glob(f"**/{folder}/**/*.y*ml")):
            name = str(file.relative_to(root))
            if (place := place_of(root, name, model, ())) != name:
                return place
    return None


def _below(node: yaml.Node | None, key: str) -> tuple[yaml.Node, yaml.Node] | None:
    """Return the node that names `key` in a mapping, or as the `name` of a list's item, and it."""
    if isinstance(node, yaml.MappingNode):
        return next(((name, value) for name, value in node.value if name.value == key), None)
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            named = _below(item, "name") if isinstance(item, yaml.MappingNode) else None
            if named and named[1].value == key:
                return named[1], item
    return None

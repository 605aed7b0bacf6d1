"""`runner new-version`: a feature mart beside the one that served models read.

dbt's own model versions, with two settings that are not dbt's defaults: version 1 keeps the table's
name, so that nobody who reads it loses it, and an unpinned `ref` goes on to mean version 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from runner.errors import RunnerError
from runner.project import dbt
from runner.project.manifest_file import (
    ManifestNode,
    file_of,
    models_of,
    read_manifest,
    view_name,
)
from runner.settings import Settings
from runner.wording import did_you_mean


@dataclass(frozen=True)
class NewVersion:
    """A version that was written.

    Attributes
    ----------
    view
        Its feature view.
    reference
        How a recipe names it, before `:`.
    sql, yaml
        The file written, and the file edited, relative to the project.
    """

    view: str
    reference: str
    sql: Path
    yaml: Path


def write_version(settings: Settings, mart: str) -> NewVersion:
    """Copy the SQL of a feature mart as its next version, and declare that in its YAML.

    Raises
    ------
    RunnerError
        If there is no such mart, or its YAML is not as dbt's docs write it; nothing is written
        then.
    """
    dbt.parsed(settings)
    node = _mart(settings, mart)
    name, number = node["name"], _latest(settings, node["name"]) + 1
    source = settings.root / node["original_file_path"]
    target = source.with_name(f"{name}_v{number}.sql")
    described = settings.root / file_of(node)
    if target.exists():
        raise RunnerError(f"{target}: exists already", hint="rename or delete it")
    text = with_version(described, name, source.stem, number)
    target.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    described.write_text(text, encoding="utf-8")
    relative = (path.relative_to(settings.root) for path in (target, described))
    return NewVersion(f"{name}_v{number}", f"{name}.v{number}", *relative)


def _mart(settings: Settings, mart: str) -> ManifestNode:
    nodes = models_of(read_manifest(settings.manifest_path))
    marts = {view_name(node): node for node in nodes if "feature_mart" in node["fqn"][:-1]}
    if mart not in marts:
        raise RunnerError(
            f"no feature mart {mart!r}{did_you_mean(mart, marts)}",
            hint=f"feature marts: {', '.join(sorted(marts)) or 'none yet'}",
        )
    return marts[mart]


def _latest(settings: Settings, name: str) -> int:
    nodes = models_of(read_manifest(settings.manifest_path))
    return max(int(node.get("version") or 1) for node in nodes if node["name"] == name)


def with_version(path: Path, name: str, stem: str, number: int) -> str:
    """Return the YAML with one more version of the dbt model; the rest of it stays as written."""
    text = path.read_text(encoding="utf-8")
    model = next(_models(yaml.compose(text, yaml.SafeLoader), name), None)
    if model is None or model.flow_style:
        raise _not_block(path, name)
    lines = text.splitlines(keepends=True)
    versions = next((value for key, value in model.value if key.value == "versions"), None)
    if versions is None:
        at, margin = model.value[0][1].end_mark.line + 1, " " * model.start_mark.column
        added = [
            "latest_version: 1",
            "versions:",
            "  - v: 1",
            f"    defined_in: {stem}",
            f"    config: {{alias: {name}}}",
            f"  - v: {number}",
        ]
    else:
        if versions.flow_style or not versions.value:
            raise _not_block(path, name)
        first = versions.value[0]
        at, margin = first.start_mark.line, " " * versions.start_mark.column
        added = [f"- v: {number}"]
    lines[at:at] = [f"{margin}{line}\n" for line in added]
    return "".join(lines)


def _models(document: yaml.Node | None, name: str) -> Iterator[yaml.MappingNode]:
    """Yield what the YAML says of the dbt model."""
    for key, value in document.value if isinstance(document, yaml.MappingNode) else ():
        for model in value.value if key.value == "models" else ():
            names = [found.value for key, found in model.value if key.value == "name"]
            if names == [name]:
                yield model


def _not_block(path: Path, name: str) -> RunnerError:
    return RunnerError(
        f"{path}: {name}: its lines are in braces, or not there",
        hint="write a line for each key, as `runner help changing-a-feature` shows",
    )

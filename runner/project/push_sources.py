"""The dbt sources whose rows are pushed to a feature mart: `config.meta.pushes` names the mart."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from contract.event_format import (
    COLLECTED_AT,
    PUSH_ID,
    RECEIVED_AT,
    EventColumn,
    EventTable,
    PushedView,
)
from contract.values import FLOAT32_MAX
from runner.errors import RunnerError
from runner.project.manifest_file import (
    ManifestFile,
    ManifestNode,
    file_of,
    meta_of,
    upstream_first,
)
from runner.project.relations import FeatureMart
from runner.project.yaml_lines import place_in_source

FILLED = frozenset({RECEIVED_AT, COLLECTED_AT})
"""The columns that `runner collect` fills."""
_LIMITS = {"float32": FLOAT32_MAX, "float64": FLOAT32_MAX}
"""No model can take a larger feature, whatever its type."""
_HINT = "`runner help events` lists what a source needs to take events"


def push_tables(
    content: ManifestFile, root: Path, marts: Mapping[str, FeatureMart]
) -> dict[str, EventTable | None]:
    """Return the raw table of each mart that takes pushed rows; None: the mart does not read it.

    A wrong declaration is left out: `event_sources` reports it.
    """
    sources = content.get("sources", {})
    nodes = {**content["nodes"], **sources}
    found: dict[str, EventTable | None] = {}
    for key, node in sources.items():
        if "pushes" in meta_of(node):
            with suppress(RunnerError):
                table = push_table(root, node, marts)
                name = str(meta_of(node)["pushes"])
                found[name] = table if key in upstream_first(nodes, [name]) else None
    return found


def push_table(root: Path, node: ManifestNode, marts: Mapping[str, FeatureMart]) -> EventTable:
    """Return the raw table of rows that are pushed to a feature mart: the mart's columns.

    Raises
    ------
    RunnerError
        If the source's `pushes` names no mart that can take them.
    """
    name = str(meta_of(node)["pushes"])
    mart = marts.get(name)
    if mart is None or not mart.online:
        raise source_error(root, node, (), f"pushes: {name!r} is not a feature mart that is online")
    if mart.created_timestamp_column in {None, mart.timestamp_field}:
        message = f"pushes: {name} has no created_timestamp_column: no training would know when a "
        raise source_error(root, node, (), message + "pushed value became known")
    if f"{name}_push" in marts:
        message = f"pushes: Feast's push source of {name} would have the name of the feature mart "
        raise source_error(root, node, (), f"{message}{name}_push")
    keys = {key: mart.columns[key].dtype for key in mart.join_keys}
    features = {feature.name: feature.dtype for feature in mart.features}
    required = keys | {mart.timestamp_field: "timestamp"}
    columns = [
        EventColumn(PUSH_ID, "string"),
        *(EventColumn(key, dtype, required=True) for key, dtype in required.items()),
        *(EventColumn(one, dtype, limit=_LIMITS.get(dtype)) for one, dtype in features.items()),
    ]
    if len({column.name for column in columns} | FILLED) != len(columns) + len(FILLED):
        message = f"pushes: {name} has a column {PUSH_ID}, {RECEIVED_AT} or {COLLECTED_AT}"
        raise source_error(root, node, (), f"{message}, which the raw table fills")
    return EventTable(
        name=node["name"],
        schema=node["schema"],
        relation=node.get("identifier") or node["name"],
        id_column=PUSH_ID,
        columns=tuple(columns),
        view=PushedView(name, keys, features, mart.timestamp_field),
    )


def source_error(
    root: Path, node: ManifestNode, keys: tuple[str, ...], message: str
) -> RunnerError:
    """Return the error that says `file:line: source.table: message`."""
    source = node["fqn"][-2]
    place = place_in_source(root, file_of(node), source, ("tables", node["name"], *keys))
    return RunnerError(f"{place}: {source}.{node['name']}: {message}", hint=_HINT)

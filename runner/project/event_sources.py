"""The dbt sources that take events or pushed rows: those whose `config.meta` says so.

`event_id` names the column that names an event. The declared columns are all that an event may
have, and a `not_null` test makes one required; see docs/events.md. `pushes` names the feature mart
that rows are pushed to: their columns are the mart's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
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
from runner.project.column_types import DTYPES, declared_type
from runner.project.manifest import FeatureMart, load_manifest
from runner.project.manifest_file import (
    ManifestFile,
    ManifestNode,
    NodeColumn,
    file_of,
    meta_of,
    parents_of,
    read_manifest,
)
from runner.project.yaml_lines import place_in_source

_TYPES = {
    **DTYPES,
    "smallint": "int16",
    "int2": "int16",
    "numeric": "numeric",
    "decimal": "numeric",
    "bignumeric": "numeric",
    "date": "date",
    "json": "json",
    "jsonb": "json",
}
_ARGUMENTS = re.compile(r"\((\d+)(?:\s*,\s*(\d+))?\)")
_FILLED = frozenset({RECEIVED_AT, COLLECTED_AT})
_LIMITS = {"float32": FLOAT32_MAX, "float64": FLOAT32_MAX}
"""No model can take a larger feature, whatever its type."""
_IDS = frozenset({"int64", "string"})
_HINT = "docs/events.md lists what a source needs to take events"


def event_tables(manifest_path: Path) -> list[EventTable]:
    """Return the dbt sources that take events or pushed rows.

    Raises
    ------
    RunnerError
        If dbt has not read the project yet, or the declaration of one is wrong.
    """
    content = read_manifest(manifest_path)
    root = manifest_path.parent.parent
    found: dict[str, EventTable] = {}
    views = set()
    for key, node in content.get("sources", {}).items():
        meta = meta_of(node)
        if not {"event_id", "pushes"} & meta.keys():
            continue
        if node["name"] in found:
            raise _error(root, node, (), "another source has a table of this name")
        if "pushes" not in meta:
            table = _table(root, node, _required(content, key))
            is_bigquery = content["metadata"].get("adapter_type") == "bigquery"
            found[node["name"]] = _of_numeric(table) if is_bigquery else table
            continue
        if meta["pushes"] in views:
            raise _error(
                root, node, (), f"pushes: another source takes the rows of {meta['pushes']}"
            )
        views.add(meta["pushes"])
        found[node["name"]] = _pushed(root, node, load_manifest(manifest_path).marts)
    return list(found.values())


def _pushed(root: Path, node: ManifestNode, marts: Mapping[str, FeatureMart]) -> EventTable:
    """Return the raw table of rows that are pushed to a feature mart: the mart's columns."""
    name = str(meta_of(node)["pushes"])
    mart = marts.get(name)
    if mart is None or not mart.online:
        raise _error(root, node, (), f"pushes: {name!r} is not a feature mart that is online")
    if mart.created_timestamp_column in {None, mart.timestamp_field}:
        message = f"pushes: {name} has no created_timestamp_column: no training would know when a "
        raise _error(root, node, (), message + "pushed value became known")
    keys = {key: mart.columns[key].dtype for key in mart.join_keys}
    features = {feature.name: feature.dtype for feature in mart.features}
    required = keys | {mart.timestamp_field: "timestamp"}
    columns = [
        EventColumn(PUSH_ID, "string"),
        *(EventColumn(key, dtype, required=True) for key, dtype in required.items()),
        *(EventColumn(one, dtype, limit=_LIMITS.get(dtype)) for one, dtype in features.items()),
    ]
    if len({column.name for column in columns} | _FILLED) != len(columns) + len(_FILLED):
        message = f"pushes: {name} has a column {PUSH_ID}, {RECEIVED_AT} or {COLLECTED_AT}"
        raise _error(root, node, (), f"{message}, which the raw table fills")
    return EventTable(
        name=node["name"],
        schema=node["schema"],
        relation=node.get("identifier") or node["name"],
        id_column=PUSH_ID,
        columns=tuple(columns),
        view=PushedView(name, keys, features, mart.timestamp_field),
    )


def _table(root: Path, node: ManifestNode, required: Collection[str]) -> EventTable:
    id_column = meta_of(node)["event_id"]
    columns = [
        _column(root, node, column, column["name"] in required)
        for column in node["columns"].values()
        if column["name"] not in _FILLED
    ]
    ids = [column for column in columns if column.name == id_column]
    if not ids:
        raise _error(root, node, (), f"event_id: {id_column!r} is not one of its columns")
    if ids[0].dtype not in _IDS:
        message = f"event_id: {id_column} is {ids[0].dtype}, not a text or a whole number"
        raise _error(root, node, ("columns", ids[0].name, "data_type"), message)
    return EventTable(
        name=node["name"],
        schema=node["schema"],
        relation=node.get("identifier") or node["name"],
        id_column=str(id_column),
        columns=tuple(columns),
    )


def _column(root: Path, node: ManifestNode, column: NodeColumn, required: bool) -> EventColumn:
    declared = declared_type(column)
    base = _ARGUMENTS.sub("", declared).strip()
    dtype = _TYPES.get(base)
    if dtype is None:
        message = f"{column['name']}: data_type {declared}; known are {', '.join(sorted(_TYPES))}"
        raise _error(root, node, ("columns", column["name"], "data_type"), message)
    first, second = found.groups() if (found := _ARGUMENTS.search(declared)) else (None, None)
    digits = None
    if dtype == "numeric" and first is not None:
        digits = (int(first) - int(second or 0), int(second or 0))
    return EventColumn(
        name=column["name"],
        dtype=dtype,
        required=required,
        limit=FLOAT32_MAX if dtype == "float32" else None,
        length=int(first) if dtype == "string" and first is not None else None,
        digits=digits,
    )


def _of_numeric(table: EventTable) -> EventTable:
    """Return a table whose numbers fit BigQuery's NUMERIC: it rounds what is longer."""
    columns = (
        column
        if column.digits is None
        else replace(column, digits=(min(column.digits[0], 29), min(column.digits[1], 9)))
        for column in table.columns
    )
    return replace(table, columns=tuple(columns))


def _required(content: ManifestFile, source: str) -> frozenset[str]:
    """Return the columns of a source that a `not_null` test of all its rows is about."""
    return frozenset(_tested(content, source))


def _tested(content: ManifestFile, source: str) -> Iterator[str]:
    for node in content["nodes"].values():
        if node["resource_type"] != "test" or parents_of(node) != [source]:
            continue
        column, test = node.get("column_name"), node.get("test_metadata")
        if column and test and test["name"] == "not_null" and not node["config"].get("where"):
            yield column


def _error(root: Path, node: ManifestNode, keys: tuple[str, ...], message: str) -> RunnerError:
    source = node["fqn"][-2]
    place = place_in_source(root, file_of(node), source, ("tables", node["name"], *keys))
    return RunnerError(f"{place}: {source}.{node['name']}: {message}", hint=_HINT)

"""The dbt sources that take events or pushed rows: those whose `config.meta` says so.

`event_id` names the column that names an event. The declared columns are all that an event may
have, and a `not_null` test makes one required; see docs/events.md. `pushes` names the feature mart
that rows are pushed to: their columns are the mart's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from contract.event_format import EventColumn, EventTable
from contract.values import FLOAT32_MAX
from runner.project.column_types import DTYPES, declared_type
from runner.project.manifest import load_manifest
from runner.project.manifest_file import (
    ManifestFile,
    ManifestNode,
    NodeColumn,
    meta_of,
    parents_of,
    read_manifest,
)
from runner.project.push_sources import FILLED, push_table, source_error

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
_IDS = frozenset({"int64", "string"})


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
            raise source_error(root, node, (), "another source has a table of this name")
        if "pushes" not in meta:
            table = _table(root, node, _required(content, key))
            is_bigquery = content["metadata"].get("adapter_type") == "bigquery"
            found[node["name"]] = _of_numeric(table) if is_bigquery else table
            continue
        if meta["pushes"] in views:
            raise source_error(
                root, node, (), f"pushes: another source takes the rows of {meta['pushes']}"
            )
        views.add(meta["pushes"])
        found[node["name"]] = push_table(root, node, load_manifest(manifest_path).marts)
    return list(found.values())


def _table(root: Path, node: ManifestNode, required: Collection[str]) -> EventTable:
    id_column = meta_of(node)["event_id"]
    columns = [
        _column(root, node, column, column["name"] in required)
        for column in node["columns"].values()
        if column["name"] not in FILLED
    ]
    ids = [column for column in columns if column.name == id_column]
    if not ids:
        raise source_error(root, node, (), f"event_id: {id_column!r} is not one of its columns")
    if ids[0].dtype not in _IDS:
        message = f"event_id: {id_column} is {ids[0].dtype}, not a text or a whole number"
        raise source_error(root, node, ("columns", ids[0].name, "data_type"), message)
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
        raise source_error(root, node, ("columns", column["name"], "data_type"), message)
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

"""dbt's `manifest.json` with types: the keys that are read here, as dbt writes them."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from runner.errors import RunnerError

_LONGEST_WRITE_SECONDS = 3.0
_POLL_SECONDS = 0.05


class ColumnMeta(TypedDict, total=False):
    """The `meta` of a column."""

    pii: object


class ColumnConfig(TypedDict, total=False):
    """The `config` of a column."""

    meta: ColumnMeta | None


class NodeColumn(TypedDict):
    """A column that the YAML of a dbt model describes."""

    name: str
    description: str
    data_type: NotRequired[str | None]
    quote: NotRequired[bool | None]
    meta: NotRequired[ColumnMeta | None]
    config: NotRequired[ColumnConfig | None]


class NodeContract(TypedDict):
    """Whether dbt holds the columns of the SQL against those of the YAML."""

    enforced: bool


class NodeMeta(TypedDict, total=False):
    """`config.meta` of a feature mart or spine: as it should be, which `mart_rules` sees to."""

    entities: dict[str, str]
    ttl: object
    timestamp_field: str
    created_timestamp_column: str
    compare_every: object
    online: bool
    owner: str
    labels: dict[str, object]
    outcome: dict[str, str]
    event_id: object
    pushes: object


class NodeHook(TypedDict):
    """SQL that dbt runs before or after a node."""

    sql: str


NodeConfig = TypedDict(
    "NodeConfig",
    {
        "where": NotRequired[str | None],
        "sql_header": NotRequired[str | None],
        "materialized": NotRequired[str],
        "contract": NotRequired[NodeContract],
        "meta": NotRequired[NodeMeta | None],
        "pre-hook": NotRequired[list[NodeHook]],
        "post-hook": NotRequired[list[NodeHook]],
    },
)
"""A node's configuration, from its SQL, its YAML and dbt_project.yml."""


class TestMetadata(TypedDict):
    """Which generic test a test is."""

    name: str


class NodeDependencies(TypedDict):
    """What a node reads and the macros it calls, by unique id."""

    nodes: NotRequired[list[str]]
    macros: NotRequired[list[str]]


class ManifestNode(TypedDict):
    """A dbt model, test, seed, snapshot or source."""

    name: str
    resource_type: str
    fqn: list[str]
    database: str
    schema: str
    alias: str
    description: str
    original_file_path: str
    patch_path: NotRequired[str | None]
    tags: list[str]
    columns: dict[str, NodeColumn]
    config: NodeConfig
    depends_on: NotRequired[NodeDependencies | None]
    raw_code: NotRequired[str]
    compiled_code: NotRequired[str | None]
    compiled_path: NotRequired[str | None]
    build_path: NotRequired[str | None]
    relation_name: NotRequired[str | None]
    version: NotRequired[str | int | float | None]
    identifier: NotRequired[str]
    column_name: NotRequired[str | None]
    test_metadata: NotRequired[TestMetadata | None]


class ManifestMacro(TypedDict):
    """A macro of the project or of a package."""

    macro_sql: str


class ManifestMetadata(TypedDict):
    """What dbt says of the project and of itself."""

    project_name: str
    adapter_type: NotRequired[str | None]
    invocation_id: NotRequired[str]


class ManifestFile(TypedDict):
    """The whole file."""

    metadata: ManifestMetadata
    nodes: dict[str, ManifestNode]
    macros: dict[str, ManifestMacro]
    sources: dict[str, ManifestNode]
    unit_tests: NotRequired[dict[str, ManifestNode]]
    disabled: NotRequired[dict[str, list[ManifestNode]] | None]


def read_manifest(path: Path) -> ManifestFile:
    """Return dbt's manifest at `path`.

    Raises
    ------
    RunnerError
        If dbt has not written it yet, or was killed while it did.
    """
    if not path.is_file():
        raise RunnerError(f"{path}: no such file", hint="run `dbt build` (or `dbt parse`) first")
    until = time.monotonic() + _LONGEST_WRITE_SECONDS
    while True:
        try:
            content: ManifestFile = json.loads(path.read_bytes())
        except ValueError as err:  # a dbt that is at work has written a part of it
            if time.monotonic() > until:
                raise RunnerError(
                    f"{path}: dbt ended before it had written the file", hint="run `dbt parse`"
                ) from err
            time.sleep(_POLL_SECONDS)
        else:
            return content


def models_of(content: ManifestFile) -> Iterator[ManifestNode]:
    """Yield every dbt model that is not disabled."""
    return (node for node in content["nodes"].values() if node["resource_type"] == "model")


def parents_of(node: ManifestNode) -> list[str]:
    """Return the unique ids of what the node reads."""
    return (node.get("depends_on") or NodeDependencies()).get("nodes", [])


def upstream_first(nodes: Mapping[str, ManifestNode], names: Collection[str]) -> list[str]:
    """Return the unique ids of the dbt models `names` and of all nodes upstream, those first."""
    order: dict[str, None] = {}

    def visit(key: str) -> None:
        if key in nodes and key not in order:
            for parent in parents_of(nodes[key]):
                visit(parent)
            order[key] = None

    for key, node in nodes.items():
        if node["resource_type"] == "model" and view_name(node) in names:
            visit(key)
    return list(order)


def read_by(
    nodes: Mapping[str, ManifestNode], node: ManifestNode
) -> Iterator[tuple[str, str, ManifestNode]]:
    """Yield each relation that the node's query reads, its unique id and its node.

    An ephemeral dbt model is a part of the query: what it reads, the query reads.
    """
    for key in parents_of(node):
        parent = nodes.get(key)
        if parent is None:
            continue
        if relation := parent.get("relation_name"):
            yield relation, key, parent
        else:
            yield from read_by(nodes, parent)


def meta_of(node: ManifestNode) -> NodeMeta:
    """Return the node's meta, without what is null there."""
    meta = node["config"].get("meta") or NodeMeta()
    return cast("NodeMeta", {key: value for key, value in meta.items() if value is not None})


def is_pii(column: NodeColumn) -> bool:
    """Return whether the column's meta says `pii: true`; dbt keeps it in one place or the other."""
    metas = (column.get("meta"), (column.get("config") or ColumnConfig()).get("meta"))
    return any((meta or ColumnMeta()).get("pii") is True for meta in metas)


def view_name(node: ManifestNode) -> str:
    """Return what the node is called as a feature view, a spine or a table.

    Version 1 of a dbt model keeps the name that it had without versions: `user_activity`, beside
    `user_activity_v2`.
    """
    version = node.get("version")
    return node["name"] if version in {None, 1, "1"} else f"{node['name']}_v{version}"


def selector_of(node: ManifestNode) -> str:
    """Return what `dbt build --select` calls the node; its name alone would be all versions."""
    version = node.get("version")
    return node["name"] if version is None else f"{node['name']}.v{version}"


def file_of(node: ManifestNode) -> str:
    """Return the YAML file that describes the node, else its SQL file; relative to the project."""
    patch = node.get("patch_path") or node["original_file_path"]
    return patch.split("://")[-1]

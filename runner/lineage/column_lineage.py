"""Column lineage of a dbt project: from the manifest and its compiled SQL to a graph of columns.

Pure: no server is asked. Raw columns are those of dbt's sources and seeds. What cannot be resolved
of a column is in `Lineage.unresolved`, with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from runner.lineage.lineage_graph import ROWS, Lineage, LineageColumn
from runner.lineage.query_columns import Origin, Query
from runner.lineage.query_scopes import EPHEMERAL, Unresolved
from runner.project.manifest_file import ManifestNode, read_manifest, view_name

_DIALECTS = {"postgres": "postgres", "bigquery": "bigquery"}
_RAW = ("source", "seed")
_TRANSFORMED = ("model", "snapshot")
_KNOWN = (*_RAW, *_TRANSFORMED)
_SNAPSHOT_TIMES = ("dbt_valid_from", "dbt_valid_to", "dbt_updated_at")
_SNAPSHOT_COLUMNS = (*_SNAPSHOT_TIMES, "dbt_scd_id", "dbt_is_deleted")
Node = Mapping[str, Any]
"""A dbt model, snapshot, seed or source as dbt's manifest describes it."""


def column_lineage(manifest: Mapping[str, Any]) -> Lineage:
    """Return the lineage of every column in dbt's manifest, compiled.

    An incremental dbt model compiled for an increment reads its own table too. That adds nothing:
    the table's columns come from the same SQL.

    Parameters
    ----------
    manifest
        The content of `target/manifest.json` after `dbt compile` or `dbt build`.
    """
    return _ManifestReader(manifest).read()


def load_column_lineage(manifest_path: Path) -> Lineage:
    """Return the lineage of every column in dbt's manifest in this file; see `column_lineage`."""
    return column_lineage(read_manifest(manifest_path))


class _ManifestReader:
    """Reads one manifest; every dbt model's SQL is parsed once."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        adapter = manifest["metadata"]["adapter_type"]
        self._dialect = _DIALECTS.get(adapter, adapter)
        nodes = [*manifest["nodes"].values(), *manifest["sources"].values()]
        nodes = [node for node in nodes if node["resource_type"] in _KNOWN]
        off = [node for nodes in (manifest.get("disabled") or {}).values() for node in nodes]
        off = [node for node in off if node["resource_type"] in _KNOWN]
        named = _names([*nodes, *off])
        self._nodes = {named(node): node for node in nodes}
        self._by_table = {_table(node): name for name, node in self._nodes.items()}
        self._disabled = {_table(node): named(node) for node in off}
        self._queries: dict[str, Query | Unresolved] = {}
        names = {node["unique_id"]: named(node) for node in nodes}
        self._lineage = Lineage(
            raw=frozenset(n for n, node in self._nodes.items() if node["resource_type"] in _RAW),
            reads={
                name: tuple(names[read] for read in _read_by(node) if read in names)
                for name, node in self._nodes.items()
            },
            disabled=frozenset(self._disabled.values()) - self._nodes.keys(),
        )

    def read(self) -> Lineage:
        waiting = [column for name in self._nodes for column in sorted(self._columns(name))]
        while waiting:
            column = waiting.pop()
            if column in self._lineage.parents:
                continue
            try:
                parents = self._parents(column)
            except Unresolved as err:
                self._lineage.unresolved[column] = str(err)
                parents = set()
            self._lineage.parents[column] = tuple(sorted(parents - {column}))
            waiting += sorted(parents)
        is_open = {name for name in self._nodes if self._is_open(name)}
        return replace(self._lineage, open=frozenset(is_open))

    def _is_open(self, name: str) -> bool:
        if name in self._lineage.raw:
            return True
        query = self._query(name)
        return isinstance(query, Unresolved) or query.is_open

    def _columns(self, name: str) -> set[LineageColumn]:
        """Return the columns that the dbt model's SQL and YAML name."""
        names = {*described_columns(self._nodes[name]).values()}
        if name not in self._lineage.raw:
            query = self._query(name)
            if isinstance(query, Query):
                names |= {*query.columns, *_added(self._nodes[name])}
            # No more is known of any column than of the dbt model itself.
            names.add(ROWS)
        return {LineageColumn(name, column) for column in names}

    def _parents(self, column: LineageColumn) -> set[LineageColumn]:
        if column.relation in self._lineage.disabled:
            raise Unresolved(f"{column.relation} is disabled in dbt")
        if column.relation not in self._nodes:
            raise Unresolved(f"dbt does not know the table {column.relation}")
        if column.relation in self._lineage.raw:
            return set()
        query = self._query(column.relation)
        if isinstance(query, Unresolved):
            raise query
        added = _added(self._nodes[column.relation])
        if column.name in added:
            time = added[column.name]
            if not time or not (time in query.columns or (query.is_open and time.isidentifier())):
                raise Unresolved("dbt's snapshot computes it")
            return {LineageColumn(column.relation, time)}
        try:
            return {self._column(origin) for origin in query.origins(column.name)}
        except RecursionError as err:
            raise Unresolved("its SQL is nested too deeply") from err

    def _column(self, origin: Origin) -> LineageColumn:
        table = tuple(part.lower() for part in origin.table)
        name = self._by_table.get(table) or self._disabled.get(table)
        return LineageColumn(name or ".".join(origin.table), origin.column)

    def _query(self, name: str) -> Query | Unresolved:
        """Return the dbt model's query, or why there is none."""
        if name not in self._queries:
            # A dbt model that reads itself finds this, and takes its own columns as unknown.
            self._queries[name] = Unresolved("it reads itself")
            try:
                self._queries[name] = self._parse(self._nodes[name])
            except Unresolved as err:
                self._queries[name] = err
        return self._queries[name]

    def _parse(self, node: Node) -> Query:
        if node.get("language", "sql") != "sql":
            raise Unresolved("it is not SQL")
        if not node.get("compiled_code"):
            raise Unresolved("dbt has not compiled it")
        try:
            query = Query(node["compiled_code"], self._dialect, self._known_columns)
            query.is_open  # noqa: B018  (a query whose result columns are unknown is of no use)
        except RecursionError as err:
            raise Unresolved("its SQL is nested too deeply") from err
        return query

    def _known_columns(self, table: tuple[str, ...]) -> Collection[str] | None:
        """Return all columns of a table, or None: YAML may describe only some of a raw table's."""
        name = self._by_table.get(tuple(part.lower() for part in table))
        if name is None or self._is_open(name):
            return None
        query = self._query(name)
        columns = () if isinstance(query, Unresolved) else query.columns
        return (*columns, *_added(self._nodes[name]))


def relation_of(node: Node) -> str:
    """Return what a column's name is written after, where nothing else has that name."""
    if node["resource_type"] in _RAW:
        return f"{node['schema']}.{node.get('identifier') or node['alias']}"
    return view_name(cast("ManifestNode", node))


def described_columns(node: Node) -> dict[str, str]:
    """Return the columns that YAML describes: as written there → as they are named here."""
    described = node["columns"].items()
    return {key: c["name"] if c.get("quote") else c["name"].lower() for key, c in described}


def _names(nodes: Iterable[Node]) -> Callable[[Node], str]:
    """Return what names a node: raw tables of one name in two databases by the database too."""
    tables = {_table(node): relation_of(node) for node in nodes if node["resource_type"] in _RAW}
    several = {name for name, count in Counter(tables.values()).items() if count > 1}

    def name(node: Node) -> str:
        short = relation_of(node)
        return f"{node['database']}.{short}" if short in several else short

    return name


def _added(node: Node) -> Mapping[str, str | None]:
    """Return the columns that dbt adds to a snapshot → the column whose times they hold, if any."""
    if node["resource_type"] != "snapshot":
        return {}
    config = _config(node)
    named = config.get("snapshot_meta_column_names") or {}
    by_time = config.get("strategy") == "timestamp"
    updated_at = str(config["updated_at"]).lower() if by_time else None
    return {
        named.get(name) or name: updated_at if name in _SNAPSHOT_TIMES else None
        for name in _SNAPSHOT_COLUMNS
        if name != "dbt_is_deleted" or config.get("hard_deletes") == "new_record"
    }


def _table(node: Node) -> tuple[str, ...]:
    name = node.get("identifier") or node["alias"]
    if _config(node).get("materialized") == "ephemeral":
        return (f"{EPHEMERAL}{name}".lower(),)
    return tuple(str(part).lower() for part in (node["database"], node["schema"], name) if part)


def _config(node: Node) -> Node:
    return node.get("config") or {}


def _read_by(node: Node) -> Iterable[str]:
    depends_on = node.get("depends_on") or {}
    return depends_on.get("nodes") or ()

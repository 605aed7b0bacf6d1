"""Column lineage of a dbt project: from the manifest and its compiled SQL to a graph of columns.

Pure: no server is asked. Raw columns are those of dbt's sources and seeds. What cannot be told of
a column stands in `Lineage.unresolved`, with the reason.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from runner.lineage.query_columns import EPHEMERAL, ROWS, Origin, Query, Unresolved

_DIALECTS = {"postgres": "postgres", "bigquery": "bigquery"}
_T = TypeVar("_T")
_RAW = ("source", "seed")
_TRANSFORMED = ("model", "snapshot")
_KNOWN = (*_RAW, *_TRANSFORMED)
_SNAPSHOT_TIMES = ("dbt_valid_from", "dbt_valid_to", "dbt_updated_at")
_SNAPSHOT_COLUMNS = (*_SNAPSHOT_TIMES, "dbt_scd_id", "dbt_is_deleted")


class LineageColumn(NamedTuple):
    """A column of a dbt model, source or seed, or with the name `*` its rows.

    Attributes
    ----------
    relation
        The name of the dbt model, with its version if it has any; `schema.table` of a raw table,
        with the database before it where two databases have one of that name.
    """

    relation: str
    name: str

    def __str__(self) -> str:
        return f"{self.relation}.{self.name}"


@dataclass(frozen=True)
class Lineage:
    """Which columns each column takes its values from.

    Attributes
    ----------
    parents
        Every column known → the columns it is directly computed from; raw ones have none.
    raw
        The raw tables, as `schema.table`.
    unresolved
        Column → why its parents could not be told.
    reads
        dbt model → everything it reads, be it only to filter or to join.
    disabled
        What dbt has disabled, named likewise; it has no columns here.
    open
        What may have more columns than any SQL or YAML names: raw tables, dbt models that take
        all of such a one (`select *`), and those whose SQL cannot be read.
    """

    parents: dict[LineageColumn, tuple[LineageColumn, ...]] = field(default_factory=dict)
    raw: frozenset[str] = frozenset()
    unresolved: dict[LineageColumn, str] = field(default_factory=dict)
    reads: dict[str, tuple[str, ...]] = field(default_factory=dict)
    disabled: frozenset[str] = frozenset()
    open: frozenset[str] = frozenset()

    def known(self, column: LineageColumn) -> LineageColumn:
        """Return the column as it is named here: in small letters, unless its name is quoted."""
        small = LineageColumn(column.relation, column.name.lower())
        return small if column not in self.parents and small in self.parents else column

    def upstream(self, column: LineageColumn) -> tuple[LineageColumn, ...]:
        """Return every column that `column` depends on, itself first, each once."""
        return _reachable(column, self.parents)

    def downstream(self, column: LineageColumn) -> tuple[LineageColumn, ...]:
        """Return every column that depends on `column`, itself first, each once."""
        return _reachable(column, self.children)

    @property
    def children(self) -> Mapping[LineageColumn, Iterable[LineageColumn]]:
        """Column → the columns that are directly computed from it."""
        children: dict[LineageColumn, list[LineageColumn]] = defaultdict(list)
        for column, parents in self.parents.items():
            for parent in parents:
                children[parent].append(column)
        return children

    def readers(self, relation: str) -> list[str]:
        """Return every dbt model that reads the table, directly or through others."""
        readers: dict[str, list[str]] = defaultdict(list)
        for reader, read in self.reads.items():
            for name in read:
                readers[name].append(reader)
        return sorted({*_reachable(relation, readers)} - {relation})

    def raw_tables(self, relation: str) -> list[str]:
        """Return the raw tables that a dbt model reads, directly or through others."""
        return sorted(self.raw & {*_reachable(relation, self.reads)})

    def raw_columns(self, column: LineageColumn) -> list[str]:
        """Return the raw columns that `column` comes from, such as `raw_data.orders.amount`."""
        return sorted(str(found) for found in self.upstream(column) if found.relation in self.raw)

    def untold_readers(self, relation: str) -> dict[str, str]:
        """Return what of the dbt models that read the table could not be told: column → reason.

        Where nothing of a dbt model could be told, only its rows are named.
        """
        readers = {*self.readers(relation)}
        whole = {column.relation for column in self.unresolved if column.name == ROWS}
        return {
            str(column): reason
            for column, reason in sorted(self.unresolved.items())
            if column.relation in readers and (column.name == ROWS or column.relation not in whole)
        }

    def gaps(self, column: LineageColumn) -> dict[str, str]:
        """Return what upstream of `column` could not be told: column → reason."""
        return {
            str(found): self.unresolved[found]
            for found in self.upstream(column)
            if found in self.unresolved
        }


def column_lineage(manifest: Mapping[str, Any]) -> Lineage:
    """Return the lineage of every column in dbt's manifest, compiled.

    An incremental dbt model compiled for an increment reads its own table too. That adds nothing:
    the table's columns come from the same SQL.

    Parameters
    ----------
    manifest
        The content of `target/manifest.json` after `dbt compile` or `dbt build`.
    """
    return _Reader(manifest).read()


def load_column_lineage(manifest_path: Path) -> Lineage:
    """Return the lineage of every column in dbt's manifest in this file; see `column_lineage`."""
    return column_lineage(json.loads(manifest_path.read_bytes()))


class _Reader:
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
            except Unresolved as reason:
                self._lineage.unresolved[column] = str(reason)
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
            # Of no column can more be told than of the dbt model itself.
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
            except Unresolved as reason:
                self._queries[name] = reason
        return self._queries[name]

    def _parse(self, node: Mapping[str, Any]) -> Query:
        if node.get("language", "sql") != "sql":
            raise Unresolved("it is not SQL")
        if not node.get("compiled_code"):
            raise Unresolved("dbt has not compiled it")
        try:
            query = Query(node["compiled_code"], self._dialect, self._known_columns)
            query.is_open  # noqa: B018  (a query whose result columns cannot be told is no use)
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


def relation_of(node: Mapping[str, Any]) -> str:
    """Return what a column's name is written after, where nothing else has that name."""
    if node["resource_type"] in _RAW:
        return f"{node['schema']}.{node.get('identifier') or node['alias']}"
    version = node.get("version")
    return f"{node['name']}.v{version}" if version else str(node["name"])


def described_columns(node: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns that YAML describes: as written there → as they are named here."""
    described = node["columns"].items()
    return {key: c["name"] if c.get("quote") else c["name"].lower() for key, c in described}


def _names(nodes: Iterable[Mapping[str, Any]]) -> Callable[[Mapping[str, Any]], str]:
    """Return what names a node: raw tables of one name in two databases by the database too."""
    tables = {_table(node): relation_of(node) for node in nodes if node["resource_type"] in _RAW}
    several = {name for name, count in Counter(tables.values()).items() if count > 1}

    def name(node: Mapping[str, Any]) -> str:
        short = relation_of(node)
        return f"{node['database']}.{short}" if short in several else short

    return name


def _added(node: Mapping[str, Any]) -> Mapping[str, str | None]:
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


def _table(node: Mapping[str, Any]) -> tuple[str, ...]:
    name = node.get("identifier") or node["alias"]
    if _config(node).get("materialized") == "ephemeral":
        return (f"{EPHEMERAL}{name}".lower(),)
    return tuple(str(part).lower() for part in (node["database"], node["schema"], name) if part)


def _config(node: Mapping[str, Any]) -> Mapping[str, Any]:
    return node.get("config") or {}


def _read_by(node: Mapping[str, Any]) -> Iterable[str]:
    depends_on = node.get("depends_on") or {}
    return depends_on.get("nodes") or ()


def _reachable(start: _T, edges: Mapping[_T, Iterable[_T]]) -> tuple[_T, ...]:
    found, waiting = {start: None}, [start]
    while waiting:
        for neighbour in edges.get(waiting.pop(), ()):
            if neighbour not in found:
                found[neighbour] = None
                waiting.append(neighbour)
    return tuple(found)

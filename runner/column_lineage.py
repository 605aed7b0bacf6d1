"""Column lineage of a dbt project: from the manifest and its compiled SQL to a graph of columns.

Pure: no server is asked. Raw columns are those of dbt's sources and seeds. What cannot be told of
a column stands in `Lineage.unresolved`, with the reason.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from runner.query_columns import ROWS, Origin, Query, Unresolved

_DIALECTS = {"postgres": "postgres", "bigquery": "bigquery"}
_T = TypeVar("_T")
_RAW = ("source", "seed")
_TRANSFORMED = ("model", "snapshot")


class Column(NamedTuple):
    """A column of a dbt model, source or seed, or with the name `*` its rows.

    Attributes
    ----------
    relation
        The name of the dbt model; `schema.table` of a raw table.
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
    """

    parents: dict[Column, tuple[Column, ...]] = field(default_factory=dict)
    raw: frozenset[str] = frozenset()
    unresolved: dict[Column, str] = field(default_factory=dict)
    reads: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def upstream(self, column: Column) -> tuple[Column, ...]:
        """Return every column that `column` depends on, itself first, each once."""
        return _reachable(column, self.parents)

    def downstream(self, column: Column) -> tuple[Column, ...]:
        """Return every column that depends on `column`, itself first, each once."""
        return _reachable(column, self.children)

    @property
    def children(self) -> Mapping[Column, Iterable[Column]]:
        """Column → the columns that are directly computed from it."""
        children: dict[Column, list[Column]] = defaultdict(list)
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

    def raw_columns(self, column: Column) -> list[str]:
        """Return the raw columns that `column` comes from, such as `raw_data.orders.amount`."""
        return sorted(str(found) for found in self.upstream(column) if found.relation in self.raw)

    def gaps(self, column: Column) -> dict[str, str]:
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
        self._nodes = {
            _relation(node): node
            for node in nodes
            if node["resource_type"] in (*_RAW, *_TRANSFORMED)
        }
        self._by_table = {_table(node): name for name, node in self._nodes.items()}
        self._queries: dict[str, Query | Unresolved] = {}
        names = {node["unique_id"]: name for name, node in self._nodes.items()}
        self._lineage = Lineage(
            raw=frozenset(n for n, node in self._nodes.items() if node["resource_type"] in _RAW),
            reads={
                name: tuple(names[read] for read in _read_by(node) if read in names)
                for name, node in self._nodes.items()
            },
        )

    def read(self) -> Lineage:
        waiting = [column for name in self._nodes for column in self._columns(name)]
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
            waiting += parents
        return self._lineage

    def _columns(self, name: str) -> set[Column]:
        """Return the columns that the dbt model's SQL and YAML name."""
        declared = self._nodes[name]["columns"].values()
        names = {c["name"] if c.get("quote") else c["name"].lower() for c in declared}
        if name not in self._lineage.raw:
            query = self._query(name)
            if isinstance(query, Query):
                names |= {*query.columns}
            # Of no column can more be told than of the dbt model itself.
            names.add(ROWS)
        return {Column(name, column) for column in names}

    def _parents(self, column: Column) -> set[Column]:
        if column.relation not in self._nodes:
            raise Unresolved(f"dbt does not know the table {column.relation}")
        if column.relation in self._lineage.raw:
            return set()
        query = self._query(column.relation)
        if isinstance(query, Unresolved):
            raise query
        try:
            return {self._column(origin) for origin in query.origins(column.name)}
        except RecursionError as err:
            raise Unresolved("its SQL is nested too deeply") from err

    def _column(self, origin: Origin) -> Column:
        name = self._name(origin.table) or ".".join(origin.table)
        return Column(name, origin.column)

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
        name = self._name(table)
        if name is None or name in self._lineage.raw:
            return None
        query = self._query(name)
        return None if isinstance(query, Unresolved) or query.is_open else query.columns

    def _name(self, table: tuple[str, ...]) -> str | None:
        return self._by_table.get(tuple(part.lower() for part in table))


def _relation(node: Mapping[str, Any]) -> str:
    """Return what a column's name is written after."""
    if node["resource_type"] in _RAW:
        return f"{node['schema']}.{node.get('identifier') or node['alias']}"
    version = node.get("version")
    return f"{node['name']}.v{version}" if version else str(node["name"])


def _table(node: Mapping[str, Any]) -> tuple[str, ...]:
    name = node.get("identifier") or node["alias"]
    return tuple(str(part).lower() for part in (node["database"], node["schema"], name) if part)


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

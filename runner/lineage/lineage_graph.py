"""The graph of columns: which column each takes its values from. Pure, and quick to import."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

ROWS = "*"  # the pseudo-column of what only counts rows, as count(*) does
_T = TypeVar("_T")


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
        Column → why its parents could not be resolved.
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

    def unresolved_readers(self, relation: str) -> dict[str, str]:
        """Return what could not be resolved in the dbt models that read the table: column → reason.

        Where nothing of a dbt model could be resolved, only its rows are named.
        """
        readers = {*self.readers(relation)}
        whole = {column.relation for column in self.unresolved if column.name == ROWS}
        return {
            str(column): reason
            for column, reason in sorted(self.unresolved.items())
            if column.relation in readers and (column.name == ROWS or column.relation not in whole)
        }

    def gaps(self, column: LineageColumn) -> dict[str, str]:
        """Return what could not be resolved upstream of `column`: column → reason."""
        return {
            str(found): self.unresolved[found]
            for found in self.upstream(column)
            if found in self.unresolved
        }


def _reachable(start: _T, edges: Mapping[_T, Iterable[_T]]) -> tuple[_T, ...]:
    found, waiting = {start: None}, [start]
    while waiting:
        for neighbour in edges.get(waiting.pop(), ()):
            if neighbour not in found:
                found[neighbour] = None
                waiting.append(neighbour)
    return tuple(found)

"""What a feature is computed by: the SQL behind its view, and the view's contract.

Kept as dbt compiled it, and compared in the form that the installed sqlglot gives both sides: a
comment, a reformat or another version of sqlglot changes nothing, nor does a column that the
feature is not computed from. Tables are named as in dbt, so that the schemas of two developers are
the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from difflib import unified_diff
from functools import cached_property
from typing import TYPE_CHECKING, Any

from runner.project.manifest import FeatureMart
from runner.project.manifest_file import (
    ManifestFile,
    parents_of,
    read_by,
    view_name,
)
from runner.project.node_sql import dbt_name, node_sql

if TYPE_CHECKING:
    from runner.lineage.normalized_sql import NormalizedSql

FORMAT_VERSION = 1
_SHOWN_LINES = 6


@dataclass(frozen=True)
class DbtQuery:
    """The compiled SQL of a dbt model.

    Attributes
    ----------
    reads
        Table as the SQL names it → what it is in dbt.
    """

    sql: str
    reads: Mapping[str, str]


@dataclass(frozen=True)
class ViewContract:
    """What a feature view says of its rows.

    Attributes
    ----------
    query
        Its dbt model among `Definitions.queries`.
    keys, features
        Column → dtype.
    ttl_seconds
        None: for ever.
    """

    query: str
    keys: Mapping[str, str]
    features: Mapping[str, str]
    timestamp_field: str
    created_timestamp_column: str | None
    ttl_seconds: float | None

    @property
    def row_columns(self) -> frozenset[str]:
        """The columns that every feature needs."""
        times = filter(None, (self.timestamp_field, self.created_timestamp_column))
        return frozenset([*self.keys, *times])

    def lines(self, feature: str) -> list[str]:
        """Return what is declared of one feature, a line each."""
        return [
            f"type: {self.features[feature]}",
            f"keys: {', '.join(f'{key} {self.keys[key]}' for key in sorted(self.keys))}",
            f"timestamp_field: {self.timestamp_field}",
            f"created_timestamp_column: {self.created_timestamp_column}",
            f"ttl: {_seconds(self.ttl_seconds)}",
        ]


@dataclass(frozen=True)
class Definitions:
    """The definitions of several feature views, compiled for one warehouse.

    Attributes
    ----------
    known_digests
        By view: what `digests` returned by the same sqlglot, as far as it was kept.
    """

    dialect: str
    views: Mapping[str, ViewContract]
    queries: Mapping[str, DbtQuery]
    known_digests: Mapping[str, dict[str, str]] = field(default_factory=dict, compare=False)

    def dump(self) -> dict[str, Any]:
        """Return it as JSON's types, without digests."""
        content = asdict(self)
        del content["known_digests"]
        return {"format_version": FORMAT_VERSION, **content}

    @classmethod
    def load(cls, content: Mapping[str, Any]) -> Definitions | None:
        """Return what `dump` returned; None if it is of another version."""
        if content.get("format_version") != FORMAT_VERSION:
            return None
        return cls(
            content["dialect"],
            {name: ViewContract(**view) for name, view in content["views"].items()},
            {name: DbtQuery(**query) for name, query in content["queries"].items()},
        )

    def of(self, views: Collection[str]) -> Definitions:
        """Return the definitions of these views alone."""
        chosen = {name: view for name, view in self.views.items() if name in views}
        names = {name for view in chosen.values() for name in self._readers_first(view.query)}
        queries = {name: query for name, query in self.queries.items() if name in names}
        return replace(self, views=chosen, queries=queries)

    def digests(self, view: str) -> dict[str, str]:
        """Return the digest of each feature's definition, by the installed sqlglot."""
        if view in self.known_digests:
            return self.known_digests[view]
        return {
            feature: hashlib.sha256("\n".join(self._lines(view, feature)).encode()).hexdigest()[:32]
            for feature in self.views[view].features
        }

    def is_comparable(self, other: Definitions) -> bool:
        """Return whether both were compiled for one kind of warehouse."""
        return self.dialect == other.dialect

    def changes(self, other: Definitions, view: str, feature: str) -> list[str]:
        """Return how `other` defines the feature differently, as lines of a diff; none if equal.

        A feature that `other` does not have is a change, too.
        """
        there = other.views.get(view)
        if there is None:
            return [f"- {view}"]
        if feature not in there.features:
            return [f"- {view}:{feature}"]
        if self._has_same_text(other, view):
            return []
        old, new = self._lines(view, feature), other._lines(view, feature)
        return [] if old == new else _diff(old, new)

    def _has_same_text(self, other: Definitions, view: str) -> bool:
        names = self._readers_first(self.views[view].query)
        return self.views[view] == other.views[view] and all(
            self.queries[name] == other.queries.get(name) for name in names
        )

    def _lines(self, view: str, feature: str) -> list[str]:
        """Return all that the feature is computed by: its contract, then its query and those below.

        A query below is needed as far as those above it mention its columns.
        """
        contract = self.views[view]
        lines = contract.lines(feature)
        needed: dict[str, frozenset[str] | None] = {
            contract.query: contract.row_columns | {feature}
        }
        for name in self._readers_first(contract.query):
            found, mentions = self._normalized[name].needed(needed[name])
            lines += [f"-- {name}", *found]
            for read in self.queries[name].reads.values():
                before = needed.get(read, frozenset())
                if before is None or mentions is None:
                    needed[read] = None
                else:
                    needed[read] = before | mentions
        return lines

    @cached_property
    def _normalized(self) -> dict[str, NormalizedSql]:
        from runner.lineage.normalized_sql import normalized  # sqlglot takes a while to import

        return {
            name: normalized(query.sql, self.dialect, query.reads)
            for name, query in self.queries.items()
        }

    def _readers_first(self, start: str) -> list[str]:
        """Return `start` and all queries below, each after every one that reads it."""
        order: dict[str, None] = {}

        def visit(name: str) -> None:
            if name in self.queries and name not in order:
                for read in sorted(self.queries[name].reads.values()):
                    visit(read)
                order[name] = None

        visit(start)
        return list(reversed(order))


@dataclass(frozen=True)
class FeatureDefinitions:
    """What the features of one model are computed by, as its bundle keeps it.

    Attributes
    ----------
    digests
        By feature, as `view:feature`.
    """

    definitions: Definitions
    digests: Mapping[str, str]

    @property
    def content(self) -> bytes:
        """The file."""
        return json.dumps(self.definitions.dump(), indent=1, sort_keys=True).encode()


def definitions_of(content: ManifestFile, marts: Collection[FeatureMart]) -> Definitions:
    """Return the definitions of the feature marts in dbt's manifest.

    Parameters
    ----------
    content
        After `dbt compile --full-refresh` of the marts and all upstream of them.
    """
    nodes = {**content["nodes"], **content["sources"]}
    keys = {view_name(node): key for key, node in nodes.items() if key.startswith("model.")}
    queries: dict[str, DbtQuery] = {}
    waiting = [keys[mart.name] for mart in marts]
    while waiting:
        key = waiting.pop()
        node = nodes.get(key)
        if node is None or dbt_name(key, node) in queries or not node_sql(content, key, node):
            continue
        reads = {relation: dbt_name(k, parent) for relation, k, parent in read_by(nodes, node)}
        queries[dbt_name(key, node)] = DbtQuery(node_sql(content, key, node), reads)
        waiting += parents_of(node)
    return Definitions(
        content["metadata"].get("adapter_type") or "postgres",
        {
            mart.name: _contract(mart, dbt_name(keys[mart.name], nodes[keys[mart.name]]))
            for mart in marts
        },
        queries,
    )


def _contract(mart: FeatureMart, query: str) -> ViewContract:
    return ViewContract(
        query=query,
        keys={key: mart.columns[key].dtype for key in mart.join_keys},
        features={column.name: column.dtype for column in mart.features},
        timestamp_field=mart.timestamp_field,
        created_timestamp_column=mart.created_timestamp_column,
        ttl_seconds=None if mart.ttl is None else mart.ttl.total_seconds(),
    )


def _diff(old: list[str], new: list[str]) -> list[str]:
    found = [
        f"{line[0]} {line[1:].strip()}"
        for line in unified_diff(old, new, lineterm="", n=0)
        if line[:1] in "+-" and line[:3] not in {"+++", "---"}
    ]
    return found[:_SHOWN_LINES]


def _seconds(ttl: float | None) -> str:
    return "none" if ttl is None else f"{ttl:g} s"

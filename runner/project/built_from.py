"""What each table was last built from, by the dbt runs of this checkout, bare ones too.

dbt's artifacts have the last run alone, so the next dbt that we start would overwrite them:
`note_built` comes before it, and keeps the SQL of all that the run built. A build of another
checkout is not known, nor one whose artifacts a bare dbt overwrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import NotRequired, TypedDict

from runner.project import freshness
from runner.project.manifest_file import (
    ManifestFile,
    ManifestNode,
    meta_of,
    models_of,
    read_by,
    read_manifest,
    upstream_first,
    view_name,
)
from runner.project.node_sql import calls_collected, dbt_name, node_sql
from runner.settings import Settings

_NAME = "built_from"
_BUILDS = {"build", "run"}
_FROM_NOTHING = re.compile(r"\s*create\s+(or\s+replace\s+)?table\b", re.IGNORECASE)


class BuiltQuery(TypedDict):
    """The SQL that a dbt model was built from.

    Attributes
    ----------
    name
        As definitions of features have it.
    reads
        Table as the SQL names it → what it is in dbt.
    columns
        Those that the YAML declared.
    """

    name: str
    sql: str
    reads: dict[str, str]
    columns: list[str]


class _Run(TypedDict):
    """What is kept: the last run that was noted, and by relation what came of all of them.

    Attributes
    ----------
    marts
        Relation of a feature mart → the SQL of all upstream when it was built, itself included.
    """

    invocation_id: NotRequired[str]
    queries: dict[str, BuiltQuery]
    marts: dict[str, list[BuiltQuery]]


def note_built(settings: Settings) -> None:
    """Keep the SQL of what dbt's last run built."""
    try:
        results = json.loads(settings.manifest_path.with_name("run_results.json").read_bytes())
        run, kept = results["metadata"]["invocation_id"], _kept(settings)
        if results["args"].get("which") not in _BUILDS or run == kept.get("invocation_id"):
            return
        content: ManifestFile = json.loads(settings.manifest_path.read_bytes())
    except (OSError, ValueError):  # dbt has not run, or was killed while it wrote them
        return
    if content["metadata"].get("invocation_id") == run:
        done = {each["unique_id"] for each in results["results"] if each["status"] == "success"}
        _add(kept, content, set(_built_whole(settings, content, done)))
        freshness.keep(settings, _NAME, {**kept, "invocation_id": run})


def built_from(settings: Settings) -> dict[str, list[BuiltQuery]]:
    """Return, by feature mart, the SQL that its table was built from, as far as that is known."""
    note_built(settings)
    marts = _kept(settings)["marts"]
    if not marts:
        return {}
    models = models_of(read_manifest(settings.manifest_path))
    relations = {view_name(node): node.get("relation_name") or "" for node in models}
    return {view: marts[name] for view, name in relations.items() if name in marts}


def _kept(settings: Settings) -> _Run:
    return {"queries": {}, "marts": {}, **freshness.kept(settings, _NAME)}  # type: ignore[typeddict-item]


def _built_whole(settings: Settings, content: ManifestFile, done: set[str]) -> Iterator[str]:
    """Yield the dbt models that are complete by this run's SQL: not those that it added rows to."""
    for key in done & content["nodes"].keys():
        node = content["nodes"][key]
        is_increment = node["config"].get("materialized") == "incremental"
        if not is_increment or _FROM_NOTHING.match(_statement(settings, node)):
            yield key


def _statement(settings: Settings, node: ManifestNode) -> str:
    """Return what dbt ran for the node; empty if that is unknown."""
    path = node.get("build_path")
    try:
        return (settings.root / path).read_text(encoding="utf-8") if path else ""
    except (OSError, ValueError):  # it is gone, or is not UTF-8
        return ""


def _add(kept: _Run, content: ManifestFile, built: set[str]) -> None:
    nodes: Mapping[str, ManifestNode] = {**content["nodes"], **content["sources"]}
    for key in built:
        node = nodes[key]
        relation, sql = node.get("relation_name"), node_sql(content, key, node)
        if relation and sql and not calls_collected(node):
            reads = {name: dbt_name(k, parent) for name, k, parent in read_by(nodes, node)}
            kept["queries"][relation] = BuiltQuery(
                name=dbt_name(key, node), sql=sql, reads=reads, columns=[*node["columns"]]
            )
    for key in built:
        relation = nodes[key].get("relation_name")
        if relation and meta_of(nodes[key]).get("entities"):
            upstream = (nodes[k].get("relation_name") for k in _upstream(nodes, key))
            kept["marts"][relation] = [
                kept["queries"][name] for name in upstream if name in kept["queries"]
            ]


def _upstream(nodes: Mapping[str, ManifestNode], key: str) -> list[str]:
    """Return the unique ids of a mart and of all nodes upstream."""
    return upstream_first(nodes, {view_name(nodes[key])})

"""The definitions of the project's features as it is now; dbt compiles only what may have changed.

As for a full refresh: an increment's SQL may read rows that an earlier one computed, and they came
by the full SQL.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import replace
from importlib.metadata import version

from runner.lineage.feature_definitions import Definitions, definitions_of
from runner.project import dbt, freshness
from runner.project.build_lock import folder_lock
from runner.project.dbt_process import Progress
from runner.project.manifest import FeatureMart, load_manifest
from runner.project.manifest_file import ManifestFile, read_manifest, upstream_first
from runner.settings import Settings

_NAME = "definitions"
_NOTHING = Definitions("", {}, {})
# How PostgreSQL and BigQuery answer the statement that fills a table from nothing.
_FILLED = ("SELECT", "CREATE TABLE")


def current_definitions(
    settings: Settings, views: Collection[str], progress: Progress
) -> Definitions:
    """Return the definitions of these feature views, without those that dbt does not have.

    Raises
    ------
    RunnerError
        If dbt cannot compile.
    """
    if not views:
        return _NOTHING
    project = freshness.fingerprint(settings)
    kept, asked = _kept(settings, project)
    if asked >= {*views}:
        return kept.of(views)
    wanted = asked.union(views)
    found = _of_last_build(settings, wanted) or _compiled(settings, wanted, progress)
    if project is not None and project == freshness.fingerprint(settings):
        found = replace(found, known_digests={view: found.digests(view) for view in found.views})
        content = {
            "key": _key(project),
            "asked": sorted(wanted),
            "definitions": found.dump(),
            "digests": found.known_digests,
        }
        freshness.keep(settings, _NAME, content)
    return found.of(views)


def known_definitions(settings: Settings, views: Collection[str]) -> Definitions | None:
    """Return what `current_definitions` would, if dbt need not be asked; else None."""
    kept, asked = _kept(settings, freshness.fingerprint(settings))
    return kept.of(views) if asked >= {*views} else None


def _kept(settings: Settings, project: str | None) -> tuple[Definitions, frozenset[str]]:
    """Return what is kept of this state of the project, and which views it was asked for."""
    content = freshness.kept(settings, _NAME)
    if project is not None and content.get("key") == _key(project):
        found = Definitions.load(content["definitions"])
        if found is not None:
            found = replace(found, known_digests=content["digests"])
            return found, frozenset(content["asked"])
    return _NOTHING, frozenset()


def _key(project: str) -> str:
    """Return what is kept: the project, read by this sqlglot."""
    return f"{project} {version('sqlglot')}"


def _compiled(settings: Settings, views: Collection[str], progress: Progress) -> Definitions:
    """Return what dbt compiles now, or what the build that was at work has compiled."""
    with folder_lock(settings) as lock:
        if found := _of_last_build(settings, views):
            return found
        names = [f"+{name}" for name in sorted(views)]
        arguments = ["compile", "--full-refresh", "--select", *names]
        dbt.run(settings, arguments, progress, inherited=(lock,))
        return definitions_of(read_manifest(settings.manifest_path), _marts(settings, views))


def _of_last_build(settings: Settings, views: Collection[str]) -> Definitions | None:
    """Return what the last `dbt build` compiled, if it built all of it from nothing."""
    if not freshness.is_current(settings):
        return None
    content = read_manifest(settings.manifest_path)
    marts = _marts(settings, views)
    whole = _whole(settings, content)
    if not {mart.name for mart in marts} >= {*views} or not _upstream(content, marts) <= whole:
        return None
    return definitions_of(content, marts)


def _marts(settings: Settings, views: Collection[str]) -> list[FeatureMart]:
    marts = load_manifest(settings.manifest_path).marts
    return [marts[name] for name in sorted(views) if name in marts]


def _whole(settings: Settings, content: ManifestFile) -> set[str]:
    """Return what the manifest has the full SQL of, by unique id."""
    compiled = {key for key, node in content["nodes"].items() if node.get("compiled_code")}
    increments = {key for key in compiled if _is_incremental(content, key)}
    try:
        results = json.loads((settings.root / "target" / "run_results.json").read_bytes())
    except (OSError, ValueError):
        return compiled - increments
    if results["metadata"]["invocation_id"] != content["metadata"].get("invocation_id"):
        return compiled - increments
    filled = {
        result["unique_id"]
        for result in results["results"]
        if str(result["adapter_response"].get("_message", "")).startswith(_FILLED)
    }
    return compiled - (increments - filled)


def _is_incremental(content: ManifestFile, key: str) -> bool:
    return content["nodes"][key]["config"].get("materialized") == "incremental"


def _upstream(content: ManifestFile, marts: Iterable[FeatureMart]) -> set[str]:
    """Return the marts and all nodes that they are computed from, without seeds."""
    nodes = content["nodes"]
    keys = upstream_first(nodes, {mart.name for mart in marts})
    return {key for key in keys if nodes[key]["resource_type"] != "seed"}

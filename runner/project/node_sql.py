"""The SQL behind a node of dbt's manifest, and the name that it has in definitions of features."""

from __future__ import annotations

from runner.project.introspection import COLLECTED, asks_warehouse, macros_called
from runner.project.manifest_file import ManifestFile, ManifestNode, NodeDependencies, view_name


def dbt_name(key: str, node: ManifestNode) -> str:
    """Return `model.user_activity`, `source.shop.events` …: what outlives a new version beside."""
    kind, _, rest = key.split(".", 2)
    return f"{kind}.{rest if kind == 'source' else view_name(node)}"


def node_sql(content: ManifestFile, key: str, node: ManifestNode) -> str:
    """Return the compiled SQL; what it is compiled from where the warehouse or the clock decides.

    Empty for what has no SQL or is a part of those that read it, as ephemeral dbt models are.
    """
    if not node.get("relation_name") or node["resource_type"] not in {"model", "snapshot"}:
        return ""
    if asks_warehouse(content, [key], full_refresh=True):
        return "\n".join([node.get("raw_code") or "", *macros_called(content, key)])
    return node.get("compiled_code") or ""


def calls_collected(node: ManifestNode) -> bool:
    """Return whether a build's SQL differs from that of `dbt compile`, until there is a table."""
    macros = (node.get("depends_on") or NodeDependencies()).get("macros", [])
    return any(name.endswith(f".{COLLECTED}") for name in macros)

"""`runner docs`: dbt's docs with exposures and, under every column, the raw columns it comes from.

They are put together in `target/docs`. dbt's own `target/manifest.json` stays as dbt wrote it:
definitions and digests are read from it.
"""

from __future__ import annotations

import json
import shutil
from typing import Any

from runner import console
from runner.commands.builds.exposures import connect_exposures, write_exposures
from runner.commands.reading.lineage import compiled_lineage
from runner.lineage.column_lineage import described_columns, relation_of
from runner.lineage.lineage_graph import Lineage, LineageColumn
from runner.project import dbt
from runner.servers.local_servers import require_servers
from runner.settings import Settings
from runner.whole_file import write_whole

_FILES = ("index.html", "catalog.json")


def write_docs(settings: Settings) -> None:
    """Generate the docs and print where they are.

    Raises
    ------
    RunnerError
        If dbt fails.
    """
    generate(settings)
    console.result(f"{dbt.docs_folder(settings)}: any web server can serve it")


def serve_docs(settings: Settings, port: int) -> None:
    """Generate the docs, then serve them on loopback until Ctrl-C.

    Raises
    ------
    RunnerError
        If the port is taken, or dbt fails.
    """
    with dbt.docs_server(settings, port) as server:
        generate(settings)
        console.result(f"dbt docs on http://127.0.0.1:{port} (Ctrl-C ends)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            console.note("stopped")


def generate(settings: Settings) -> None:
    """Write the docs of the project as it is now to `target/docs`.

    Raises
    ------
    RunnerError
        If dbt fails.
    """
    require_servers(settings)
    with console.step("dbt compile: column lineage") as step:
        lineage, _ = compiled_lineage(settings, step.update)
    with console.step("exposures: recipes, champions, endpoints"):
        write_exposures(settings)
    with console.step("dbt docs generate") as step:
        dbt.run(settings, ["docs", "generate"], step.update)
        target = settings.manifest_path.parent
        folder = dbt.docs_folder(settings)
        folder.mkdir(exist_ok=True)
        for name in _FILES:
            shutil.copy(target / name, folder / name)
        manifest = json.loads(settings.manifest_path.read_bytes())
        annotate(manifest, lineage)
        connect_exposures(manifest)
        complete_overview(manifest)
        write_whole(folder / "manifest.json", json.dumps(manifest))


def annotate(manifest: dict[str, Any], lineage: Lineage) -> None:
    """End each dbt model's column description in `manifest` with the raw columns it comes from."""
    for node in manifest["nodes"].values():
        if node["resource_type"] != "model":
            continue
        for key, name in described_columns(node).items():
            described, column = node["columns"][key], LineageColumn(relation_of(node), name)
            if column not in lineage.parents:
                continue
            raw, gaps = lineage.raw_columns(column), lineage.gaps(column)
            origin = f"From {', '.join(f'`{each}`' for each in raw)}." if raw else ""
            lost = f"Not resolved: {'; '.join(f'{c}: {why}' for c, why in gaps.items())}."
            parts = (described["description"].strip(), origin, lost if gaps else "")
            described["description"] = "\n\n".join(part for part in parts if part)


def complete_overview(manifest: dict[str, Any]) -> None:
    """End the project's own overview with its ML models and feature marts, if it has one."""
    project = manifest["metadata"]["project_name"]
    overview = manifest["docs"].get(f"doc.{project}.__overview__")
    if overview is None:
        return
    models = [one for one in manifest["exposures"].values() if one["type"] == "ml"]
    marts = [node for node in manifest["nodes"].values() if _is_feature_mart(node)]
    tables = _table("ML models", models, "exposure"), _table("Feature marts", marts, "model")
    overview["block_contents"] = "\n\n".join([overview["block_contents"], *filter(None, tables)])


def _is_feature_mart(node: dict[str, Any]) -> bool:
    meta = node["config"].get("meta", {})
    return node["resource_type"] == "model" and "entities" in meta and "labels" not in meta


def _table(title: str, nodes: list[dict[str, Any]], kind: str) -> str:
    lines = [f"## {title}", "", "| Name | What it is | Owner |", "|---|---|---|"]
    for node in sorted(nodes, key=lambda node: str(node["name"])):
        link = f"[{_cell(node.get('label') or node['name'])}](#!/{kind}/{node['unique_id']})"
        about, *_ = node["description"].split("\n\n")
        owner = (
            node["owner"]["name"] if "owner" in node else node["config"]["meta"].get("owner", "")
        )
        lines.append(f"| {link} | {_cell(about)} | {_cell(str(owner))} |")
    return "\n".join(lines) if nodes else ""


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())

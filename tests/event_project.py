"""A dbt source that takes events, in the manifest and the YAML of a project."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import psycopg

from runner.project import freshness
from runner.settings import Settings

COLUMNS = {
    "click_id": "string",
    "user_id": "bigint",
    "price": "numeric(6, 2)",
    "is_new": "boolean",
    "clicked_at": "timestamptz",
    "day": "date",
    "tags": "jsonb",
    "page": "varchar(8)",
}
YAML = """\
sources:
  - name: web
    tables:
      - name: clicks
        config: {meta: {event_id: click_id}}
        columns:
          - name: click_id
          - name: user_id
            data_type: bigint
"""


def source_manifest(
    columns: Mapping[str, str] = COLUMNS, schema: str = "raw_data", **meta: Any
) -> dict[str, Any]:
    """Return a manifest with one source, `web.clicks`, whose `user_id` is tested for not_null."""
    key = "source.shop.web.clicks"
    names = {name: {"name": name, "data_type": kind} for name, kind in columns.items()}
    source = {
        "name": "clicks",
        "identifier": "clicks",
        "resource_type": "source",
        "fqn": ["shop", "web", "clicks"],
        "schema": schema,
        "original_file_path": "models/sources.yml",
        "columns": names,
        "config": {"meta": {"event_id": "click_id", **meta}},
    }
    test = {
        "name": "not_null",
        "resource_type": "test",
        "fqn": ["shop", "not_null"],
        "columns": {},
        "config": {"where": None},
        "column_name": "user_id",
        "test_metadata": {"name": "not_null"},
        "depends_on": {"nodes": [key]},
    }
    return {
        "metadata": {"project_name": "shop", "adapter_type": "postgres"},
        "nodes": {"test.shop.not_null": test},
        "macros": {},
        "sources": {key: source},
    }


def declare(settings: Settings, manifest: Mapping[str, Any] | None = None) -> None:
    """Write the source into the project's manifest and YAML, as if dbt had just parsed it."""
    content = dict(manifest or source_manifest())
    content["metadata"] = {**content["metadata"], "invocation_id": "mine"}
    settings.manifest_path.parent.mkdir(exist_ok=True)
    settings.manifest_path.write_text(json.dumps(content))
    (settings.root / "models").mkdir(exist_ok=True)
    (settings.root / "models" / "sources.yml").write_text(YAML)
    if not (project := settings.root / "dbt_project.yml").is_file():
        project.write_text("name: shop\n")
    freshness.remember(settings, freshness.fingerprint(settings), "mine")


def click(number: int, **values: Any) -> dict[str, Any]:
    """Return an event."""
    return {"click_id": f"c{number}", "user_id": number, **values}


def clicks(sql: psycopg.Connection, what: str = "click_id, user_id") -> list[tuple[Any, ...]]:
    """Return what the raw table has."""
    return sql.execute(f"select {what} from raw_data.clicks order by user_id, click_id").fetchall()

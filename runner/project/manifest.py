"""What dbt's manifest says about feature marts and spines: the one source of every definition.

A dbt model in a folder `feature_mart` is a feature mart, one in a folder `spine_data` a spine.
What Feast needs to know stands in its `config.meta`; see docs/features.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from runner.duration import parse_duration
from runner.errors import RunnerError
from runner.sql import quoted

EVENT_TIMESTAMP = "event_timestamp"

# The warehouse's column types, PostgreSQL's and BigQuery's, in the names the online store,
# the serving bundle and the docs use.
_DTYPES = {
    "bigint": "int64",
    "int8": "int64",
    "int64": "int64",
    "integer": "int32",
    "int": "int32",
    "int4": "int32",
    "smallint": "int32",
    "double precision": "float64",
    "float8": "float64",
    "float64": "float64",
    "float": "float64",
    "numeric": "float64",
    "decimal": "float64",
    "bignumeric": "float64",
    "real": "float32",
    "float4": "float32",
    "text": "string",
    "string": "string",
    "varchar": "string",
    "character varying": "string",
    "boolean": "bool",
    "bool": "bool",
    "timestamp with time zone": "timestamp",
    "timestamptz": "timestamp",
    "timestamp": "timestamp",
}

_MART_KEYS = {
    "entities",
    "ttl",
    "timestamp_field",
    "created_timestamp_column",
    "online",
    "owner",
}
_SPINE_KEYS = {"entities", "labels", "owner"}


@dataclass(frozen=True)
class MartColumn:
    """A column of a dbt model: its name, type (`int64`, `float64`, `string` …) and description."""

    name: str
    dtype: str
    description: str


@dataclass(frozen=True)
class Relation:
    """Where a dbt model stands in the warehouse, and what dbt knows of it.

    Attributes
    ----------
    file
        The YAML file that describes it, relative to the project; errors name it.
    entities
        Feast entity name → join key column.
    columns
        Every column by name, in the contract's order.
    compiled_code
        Its SQL as dbt last compiled it; None if dbt only parsed.
    adapter_type
        The warehouse dbt compiled for: `postgres` or `bigquery`.
    """

    name: str
    database: str
    schema: str
    alias: str
    description: str
    file: str
    owner: str
    tags: tuple[str, ...]
    entities: Mapping[str, str]
    columns: Mapping[str, MartColumn]
    compiled_code: str | None
    adapter_type: str = field(default="postgres", kw_only=True)

    @property
    def join_keys(self) -> tuple[str, ...]:
        """The join key columns."""
        return tuple(self.entities.values())

    @property
    def path(self) -> str:
        """Its name in the warehouse with database and schema, quoted."""
        return quoted(self.adapter_type, self.database, self.schema, self.alias)


@dataclass(frozen=True)
class FeatureMart(Relation):
    """A dbt model that is one Feast feature view.

    Attributes
    ----------
    ttl
        How long a row stays valid after its timestamp; None: for ever.
    timestamp_field
        The column that says when a row became knowable, in UTC.
    created_timestamp_column
        The column that says when a row was written, in UTC; None: at its timestamp.
    online
        Whether it is copied to the online store.
    """

    ttl: timedelta | None
    timestamp_field: str
    created_timestamp_column: str | None
    online: bool

    @property
    def features(self) -> tuple[MartColumn, ...]:
        """Every column that is neither a join key nor a timestamp of the join."""
        others = {*self.join_keys, self.timestamp_field, self.created_timestamp_column}
        return tuple(column for column in self.columns.values() if column.name not in others)


@dataclass(frozen=True)
class Spine(Relation):
    """A dbt model of entity keys, `event_timestamp` and labels.

    Attributes
    ----------
    labels
        Label column → label window: how long after `event_timestamp` the label is known.
    """

    labels: Mapping[str, timedelta]


@dataclass(frozen=True)
class Manifest:
    """The feature marts and spines of one compiled dbt project.

    Attributes
    ----------
    sha256
        Digest of what the project meant when it was read: every dbt model's SQL, config and
        columns, and every macro, dbt's own included.
    digests
        The same for each of them, by dbt's unique id such as `model.shop.user_activity`.
    disabled
        Names of the dbt models that dbt has disabled.
    """

    path: Path
    project_name: str
    marts: Mapping[str, FeatureMart]
    spines: Mapping[str, Spine]
    sha256: str
    digests: Mapping[str, str] = field(default_factory=dict)
    disabled: frozenset[str] = frozenset()


def load_manifest(path: Path) -> Manifest:
    """Return the feature marts and spines in dbt's manifest at `path`.

    Raises
    ------
    RunnerError
        If dbt has not compiled yet, or a mart or spine does not say what Feast needs.
    """
    if not path.is_file():
        raise RunnerError(f"{path}: no such file", hint="run `dbt build` (or `dbt parse`) first")
    content = json.loads(path.read_bytes())
    adapter = {"adapter_type": content["metadata"].get("adapter_type") or "postgres"}
    models = [
        node | adapter for node in content["nodes"].values() if node["resource_type"] == "model"
    ]
    meaning = _meaning(content)
    return Manifest(
        path=path,
        project_name=content["metadata"]["project_name"],
        marts={node["name"]: _mart(node) for node in models if "feature_mart" in node["fqn"][:-1]},
        spines={node["name"]: _spine(node) for node in models if "spine_data" in node["fqn"][:-1]},
        sha256=_digest(meaning),
        digests={key: _digest(value) for key, value in meaning.items()},
        disabled=_disabled(content) - {node["name"] for node in models},
    )


def _disabled(content: dict[str, Any]) -> frozenset[str]:
    nodes = (node for nodes in (content.get("disabled") or {}).values() for node in nodes)
    return frozenset(node["name"] for node in nodes if node["resource_type"] == "model")


def _meaning(content: dict[str, Any]) -> dict[str, Any]:
    # dbt writes times and invocation ids into the file, so the file's own digest would change
    # with every build; so does the compiled SQL of an incremental dbt model.
    return {
        key: [node.get("raw_code"), node["config"], node["columns"]]
        for key, node in content["nodes"].items()
    } | {key: macro["macro_sql"] for key, macro in content["macros"].items()}


def _digest(meaning: object) -> str:
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


def _mart(node: dict[str, Any]) -> FeatureMart:
    meta = _meta(node, _MART_KEYS)
    mart = FeatureMart(
        **_relation(node, meta),
        # Feast writes "unlimited" as 0; a row that is never valid would be no feature.
        ttl=(_duration(node, "ttl", meta["ttl"]) or None) if "ttl" in meta else None,
        timestamp_field=meta.get("timestamp_field", EVENT_TIMESTAMP),
        created_timestamp_column=meta.get("created_timestamp_column"),
        online=meta.get("online", True),
    )
    _require(node, mart, mart.timestamp_field, "meta.timestamp_field")
    if mart.created_timestamp_column:
        _require(node, mart, mart.created_timestamp_column, "meta.created_timestamp_column")
    if not mart.features:
        raise _error(node, "has no column that is a feature", "add one to the SQL and the YAML")
    return mart


def _spine(node: dict[str, Any]) -> Spine:
    meta = _meta(node, _SPINE_KEYS)
    labels = meta.get("labels") or {}
    if not labels:
        raise _error(
            node,
            "meta.labels is missing",
            "name each label and its window, such as `labels: {is_purchase_7d: 7d}`",
        )
    spine = Spine(
        **_relation(node, meta),
        labels={name: _duration(node, f"labels.{name}", window) for name, window in labels.items()},
    )
    for column in (EVENT_TIMESTAMP, *labels):
        _require(node, spine, column, "the spine")
    return spine


def _relation(node: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
    if node.get("version") is not None:
        raise _error(
            node,
            f"has versions (v{node['version']}), and recipes name no version",
            "write each version as a dbt model of its own",
        )
    if node["config"].get("materialized") == "ephemeral":
        raise _error(
            node, "is ephemeral, so there is no table to read", "materialize it as a view or table"
        )
    entities = meta.get("entities")
    if not isinstance(entities, dict):
        raise _error(
            node,
            "meta.entities is missing",
            "name each Feast entity and its join key, such as `entities: {user: user_id}`",
        )
    columns = {column["name"]: _column(node, column) for column in node["columns"].values()}
    for entity, join_key in entities.items():
        if join_key not in columns:
            raise _error(
                node,
                f"meta.entities.{entity} names the column {join_key!r}, which is not described",
                "add it under columns, or correct the name",
            )
        if columns[join_key].dtype in {"float64", "float32"}:
            raise _error(
                node,
                f"join key {join_key} is {_declared(node, join_key)}; a join key is an integer, "
                "text, boolean or time",
                f"cast {join_key} to bigint or text in the SQL, and in the YAML",
            )
    return {
        "name": node["name"],
        "database": node["database"],
        "schema": node["schema"],
        "alias": node["alias"],
        "description": " ".join(node["description"].split()),
        "file": _file(node),
        "owner": meta.get("owner", ""),
        "tags": tuple(node["tags"]),
        "entities": entities,
        "columns": columns,
        "compiled_code": node.get("compiled_code"),
        "adapter_type": node["adapter_type"],
    }


def _meta(node: dict[str, Any], known: set[str]) -> dict[str, Any]:
    meta: dict[str, Any] = node["config"].get("meta") or {}
    unknown = sorted(set(meta) - known)
    if unknown:
        raise _error(node, f"unknown meta.{unknown[0]}", f"known: {', '.join(sorted(known))}")
    return meta


def _column(node: dict[str, Any], column: dict[str, Any]) -> MartColumn:
    declared = (column.get("data_type") or "").strip().lower()
    base = declared.split("(")[0].strip()
    if base not in _DTYPES:
        raise _error(
            node,
            f"column {column['name']} has data_type {declared or 'missing'!r}, which Feast "
            "cannot hold",
            f"use one of {', '.join(sorted(_DTYPES))}",
        )
    return MartColumn(column["name"], _DTYPES[base], " ".join(column["description"].split()))


def _declared(node: dict[str, Any], column: str) -> str:
    return str(node["columns"][column]["data_type"])


def _require(node: dict[str, Any], relation: Relation, column: str, where: str) -> None:
    if column not in relation.columns:
        raise _error(
            node,
            f"{where} needs a column {column!r}, which is not described",
            "add it to the SQL and under columns",
        )


def _duration(node: dict[str, Any], key: str, value: object) -> timedelta:
    try:
        return parse_duration(str(value))
    except ValueError as err:
        raise _error(node, f"meta.{key}: {err}", "correct it and run `dbt parse`") from err


def _file(node: dict[str, Any]) -> str:
    patch = node.get("patch_path") or node["original_file_path"]
    return str(patch.split("://")[-1])


def _error(node: dict[str, Any], message: str, hint: str) -> RunnerError:
    return RunnerError(f"{_file(node)}: {node['name']}: {message}", hint=hint)

"""A project with feature marts in a real PostgreSQL and a real Redis, and an oracle for it.

The oracle finds the newest rows in Python and serializes them with Feast's own code; it shares
nothing with what it checks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import redis
from feast.infra.online_stores.helpers import _mmh3, _redis_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType
from google.protobuf.timestamp_pb2 import Timestamp

from runner.duration import format_duration
from runner.online.materialize import materialize
from runner.online.view_report import ViewReport
from runner.project.manifest import FeatureMart, Manifest, MartColumn, load_manifest
from runner.settings import PostgresAddress, Settings
from tests.conftest import postgres_env
from tests.instants import at

PROJECT = "shop"
Hashes = dict[bytes, dict[bytes, bytes]]

_SQL_TYPES = {
    "int64": "bigint",
    "int32": "integer",
    "float64": "double precision",
    "float32": "real",
    "string": "text",
    "bool": "boolean",
    "timestamp": "timestamptz",
}
_FEAST_TYPES = {
    "int64": ValueType.INT64,
    "int32": ValueType.INT32,
    "float64": ValueType.DOUBLE,
    "float32": ValueType.FLOAT,
    "string": ValueType.STRING,
    "bool": ValueType.BOOL,
    "timestamp": ValueType.UNIX_TIMESTAMP,
}
_KEY_FIELDS = {
    "int64": "int64_val",
    "int32": "int32_val",
    "string": "string_val",
    "timestamp": "unix_timestamp_val",
}


class OnlineProject:
    """Settings, marts and the content of both stores."""

    def __init__(
        self, root: Path, database: PostgresAddress, redis_url: str, *, yaml: str = ""
    ) -> None:
        (root / "profiles").mkdir(exist_ok=True)
        (root / "profiles" / "feature_store.local.yaml").write_text(
            yaml or f"project: {PROJECT}\nonline_store: {{key_ttl_seconds: 86400}}\n"
        )
        env = {
            **postgres_env(database),
            "REDIS_URL": redis_url,
            "MLFLOW_TRACKING_URI": "sqlite:///mlruns/mlflow.db",
        }
        self.settings = Settings(target="local", root=root, env=env)
        self.sql = psycopg.connect(**database.conninfo, autocommit=True)  # type: ignore[arg-type]
        self.sql.execute("create schema if not exists feature_mart")
        self.sql.execute("set time zone 'UTC'")
        self.marts: list[FeatureMart] = []

    def mart(
        self,
        name: str,
        keys: Mapping[str, str],
        features: Mapping[str, str],
        *,
        ttl: timedelta | None = None,
        created: bool = True,
        index: bool = True,
        compare_every: timedelta | None = None,
    ) -> FeatureMart:
        """Create an empty feature mart: column name → dtype for keys and features."""
        place = (self.settings.postgres.database, "feature_mart")
        mart = replace(
            empty_mart(name, place, keys, features, ttl=ttl, created=created),
            compare_every=compare_every,
        )
        declared = ", ".join(f'"{column}" {_SQL_TYPES[t]}' for column, t in dtypes(mart).items())
        self.sql.execute(f'create table feature_mart."{name}" ({declared})')
        if index:
            times = filter(None, (mart.timestamp_field, mart.created_timestamp_column))
            parts = [*(f'"{key}"' for key in keys), *(f"{column} desc" for column in times)]
            self.sql.execute(f'create index on feature_mart."{name}" ({", ".join(parts)})')
        if index and compare_every:
            self.sql.execute(f'create index on feature_mart."{name}" ({mart.known_at})')
        self.marts.append(mart)
        return mart

    def write_manifest(self) -> Manifest:
        """Write what dbt would compile of these marts and one spine, and return it loaded."""
        path = self.settings.manifest_path
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(manifest_of(self.marts)))
        return load_manifest(path)

    def insert(self, mart: FeatureMart, *rows: Sequence[Any], into: str = "") -> None:
        """Insert rows, each in the order of the mart's columns; `into`: another table."""
        columns = ", ".join(f'"{name}"' for name in mart.columns)
        table = f'feature_mart."{into or mart.alias}" ({columns})'
        with (
            self.sql.cursor() as cursor,
            cursor.copy(f"copy {table} from stdin") as copy,
        ):
            for row in rows:
                copy.write_row(row)

    def delete(self, mart: FeatureMart, condition: str) -> None:
        """Delete the rows that satisfy `condition`."""
        self.sql.execute(f'delete from feature_mart."{mart.alias}" where {condition}')

    def materialize(self, hours: float = 0, *, full: bool = False) -> list[ViewReport]:
        """Materialize every mart at `hours` from NOW."""
        return materialize(self.settings, self.marts, full=full, as_of=at(hours))

    def redis(self) -> redis.Redis:
        """Return a client of the online store."""
        return redis.Redis.from_url(self.settings.redis.url)

    def online(self) -> Hashes:
        """Return every hash in the online store that is not ours for bookkeeping."""
        with self.redis() as client:
            return stored_hashes(client)

    def expected(self, hours: float = 0) -> Hashes:
        """Return what the online store must hold at `hours` from NOW."""
        hashes: Hashes = {}
        for mart in self.marts:
            for key, row in self._newest(mart, at(hours)).items():
                hashes.setdefault(key, {}).update(serialized(mart, row))
        return hashes

    def _newest(self, mart: FeatureMart, instant: datetime) -> dict[bytes, dict[str, Any]]:
        names = list(mart.columns)
        listed = ", ".join(f'"{name}"' for name in names)
        found = self.sql.execute(f'select {listed} from feature_mart."{mart.alias}"')
        return newest_rows(mart, (dict(zip(names, row, strict=True)) for row in found), instant)


def manifest_of(marts: Sequence[FeatureMart]) -> dict[str, Any]:
    """Return what dbt would compile of these marts and one spine."""
    nodes = {mart.name: _node(mart) for mart in marts} | {"labels": _spine_node(marts)}
    metadata = {"project_name": PROJECT, "adapter_type": marts[0].adapter_type}
    return {"metadata": metadata, "nodes": nodes, "macros": {}}


def empty_mart(
    name: str,
    place: tuple[str, str],
    keys: Mapping[str, str],
    features: Mapping[str, str],
    *,
    ttl: timedelta | None,
    created: bool,
    adapter_type: str = "postgres",
) -> FeatureMart:
    """Return a mart in `place` (database, schema): column name → dtype for keys and features."""
    times = {"event_timestamp": "timestamp"} | ({"created_at": "timestamp"} if created else {})
    columns = {**keys, **times, **features}
    return FeatureMart(
        name=name,
        database=place[0],
        schema=place[1],
        alias=name,
        description="",
        file=f"{name}.yml",
        owner="",
        tags=(),
        compiled_code=None,
        entities={key: key for key in keys},
        columns={column: MartColumn(column, dtype, "") for column, dtype in columns.items()},
        ttl=ttl,
        timestamp_field="event_timestamp",
        created_timestamp_column="created_at" if created else None,
        online=True,
        adapter_type=adapter_type,
    )


def dtypes(mart: FeatureMart) -> dict[str, str]:
    """Return each column's dtype."""
    return {name: column.dtype for name, column in mart.columns.items()}


def stored_hashes(client: redis.Redis) -> Hashes:
    """Return every hash in the online store that is not ours for bookkeeping."""
    keys = [key for key in client.scan_iter() if not key.startswith(b"runner:")]
    return {key: client.hgetall(key) for key in keys}


def newest_rows(
    mart: FeatureMart, rows: Iterable[dict[str, Any]], instant: datetime
) -> dict[bytes, dict[str, Any]]:
    """Return the newest valid row per entity at `instant`, by Redis key."""
    newest: dict[bytes, dict[str, Any]] = {}
    for row in rows:
        if any(row[key] is None for key in mart.join_keys) or not _is_visible(mart, row, instant):
            continue
        key = redis_key(mart, row)
        if key not in newest or _rank(mart, row) > _rank(mart, newest[key]):
            newest[key] = row
    ttl = mart.ttl
    return {k: r for k, r in newest.items() if not ttl or r["event_timestamp"] >= instant - ttl}


def _node(mart: FeatureMart) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "entities": dict(mart.entities),
        "created_timestamp_column": mart.created_timestamp_column,
        "online": mart.online,
    }
    if mart.compare_every:
        meta["compare_every"] = format_duration(mart.compare_every)
    if mart.ttl:
        meta["ttl"] = format_duration(mart.ttl)
    columns = {
        c.name: {"name": c.name, "data_type": _SQL_TYPES[c.dtype], "description": f"The {c.name}."}
        for c in mart.columns.values()
    }
    return _dbt_model(mart.name, "feature_mart", mart.database, meta, columns)


def _spine_node(marts: Sequence[FeatureMart]) -> dict[str, Any]:
    entities = {entity: key for mart in marts for entity, key in mart.entities.items()}
    types = {key: mart.columns[key].dtype for mart in marts for key in mart.join_keys}
    declared = {key: _SQL_TYPES[dtype] for key, dtype in types.items()}
    declared |= {"event_timestamp": "timestamptz", "is_good": "boolean"}
    columns = {
        name: {"name": name, "data_type": kind, "description": ""}
        for name, kind in declared.items()
    }
    meta = {"entities": entities, "labels": {"is_good": "1d"}}
    return _dbt_model("labels", "spine_data", marts[0].database, meta, columns)


def _dbt_model(
    name: str, schema: str, database: str, meta: dict[str, Any], columns: dict[str, Any]
) -> dict[str, Any]:
    return {
        "resource_type": "model",
        "name": name,
        "fqn": [PROJECT, schema, name],
        "database": database,
        "schema": schema,
        "alias": name,
        "description": f"One row per {name}.",
        "patch_path": f"{PROJECT}://models/{schema}/{name}.yml",
        "original_file_path": f"models/{schema}/{name}.sql",
        "tags": [],
        "compiled_code": "",
        "raw_code": "",
        "config": {"meta": meta},
        "columns": columns,
    }


def redis_key(mart: FeatureMart, row: Mapping[str, Any]) -> bytes:
    """Return Feast's key of a row's entity."""
    values = [
        Value(**{_KEY_FIELDS[mart.columns[key].dtype]: _key_value(row[key])})
        for key in mart.join_keys
    ]
    join_keys = list(mart.join_keys)
    if not join_keys:
        join_keys, values = ["__dummy_id"], [Value(string_val="")]
    return bytes(_redis_key(PROJECT, EntityKey(join_keys=join_keys, entity_values=values)))


def serialized(mart: FeatureMart, row: Mapping[str, Any]) -> dict[bytes, bytes]:
    """Return the hash fields of a row, by Feast's own serialization."""
    moment = Timestamp()
    moment.FromDatetime(row["event_timestamp"])
    fields = {f"_ts:{mart.name}".encode(): moment.SerializeToString()}
    for column in mart.features:
        value = row[column.name]
        message = Value()
        if value is not None:
            message = python_values_to_proto_values([value], _FEAST_TYPES[column.dtype])[0]
        fields[_mmh3(f"{mart.name}:{column.name}")] = message.SerializeToString()
    return fields


def _key_value(value: Any) -> Any:
    return int(value.timestamp()) if isinstance(value, datetime) else value


def _is_visible(mart: FeatureMart, row: Mapping[str, Any], instant: datetime) -> bool:
    created = mart.created_timestamp_column
    if created and (row[created] is None or row[created] > instant):
        return False
    return bool(row["event_timestamp"] <= instant)


def _rank(mart: FeatureMart, row: Mapping[str, Any]) -> tuple[Any, ...]:
    created = mart.created_timestamp_column
    values = [row[column.name] for column in mart.features]
    comparable = [v.encode() if isinstance(v, str) else v for v in values]
    return (
        row["event_timestamp"],
        row[created] if created else None,
        *((v is not None, v if v is not None else 0) for v in comparable),
    )

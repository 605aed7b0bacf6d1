"""Checks of the warehouse of the local target; see `doctor.py`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from runner.errors import RunnerError
from runner.online.online_config import load_online_config
from runner.project.manifest import FeatureMart, load_manifest
from runner.servers import postgres_server
from runner.settings import Settings
from runner.sql import quote, quote_table

_REGISTRY = "feast_registry"
_LEAST_VERSION = 15
_UTC = {"UTC", "UCT", "GMT", "ZULU", "UNIVERSAL", "GREENWICH"}


def server(settings: Settings) -> str:
    """See that it answers, lets us log in and is new enough."""
    address = settings.postgres
    version = postgres_server.check(address)
    if version is None:
        raise RunnerError(
            f"nothing listens at {address.host}:{address.port}",
            hint="run `runner up`, or set PGHOST and PGPORT to a server that runs",
        )
    if int(version.split(".")[0]) < _LEAST_VERSION:
        raise RunnerError(
            f"version {version} at {address.host}:{address.port} is too old",
            hint=f"use PostgreSQL {_LEAST_VERSION} or newer",
        )
    return f"{version} at {address.host}:{address.port}, database {address.database}"


def time_zone(settings: Settings) -> str:
    """See that a session is in UTC by itself: a bare dbt and psql compute days in its zone."""
    with _connect(settings) as connection:
        zone = str(_value(connection, "select current_setting('TimeZone')"))
    if zone.upper().removeprefix("ETC/") in _UTC:
        return zone
    if zone == os.environ.get("PGTZ"):
        raise RunnerError(
            f"PGTZ={zone}: dbt by itself would compute days of that zone, runner computes UTC's",
            hint="unset PGTZ, or set PGTZ=UTC",
        )
    database = settings.postgres.database
    raise RunnerError(
        f"TimeZone is {zone}: dbt by itself would compute days of that zone, runner computes UTC's",
        hint=f"""`alter database {quote(database)} set timezone = 'UTC'`, or set PGTZ=UTC""",
    )


def schemas(settings: Settings) -> str:
    """See that we may create tables in the schemas, and the schemas that are missing."""
    names = sorted({mart.schema for mart in _relations(settings)} | {_REGISTRY})
    with _connect(settings) as connection:
        creates = "select has_database_privilege(current_database(), 'create')"
        may_create = _value(connection, creates)
        for name in names:
            exists = _value(connection, "select to_regnamespace(quote_ident(%s)) is not null", name)
            writable = may_create
            if exists:
                writable = _value(connection, "select has_schema_privilege(%s, 'create')", name)
            if not writable:
                raise RunnerError(
                    f"user {settings.postgres.user} may not create "
                    f"{'tables in the schema' if exists else 'the schema'} {name}",
                    hint="let an administrator "
                    + (
                        f"`grant create, usage on schema {name} to {settings.postgres.user}`"
                        if exists
                        else f"`create schema {name} authorization {settings.postgres.user}`"
                    ),
                )
    return f"{', '.join(names)} can be written"


def indexes(settings: Settings) -> str:
    """See that feature marts have the indexes of the point-in-time join and of `compare_every`."""
    from runner.warehouse.postgres.indexes import index_advice, table_indexes

    found = []
    with _connect(settings) as connection:
        for mart in _marts(settings):
            table = quote_table(mart.schema, mart.alias)
            if not _value(connection, "select to_regclass(%s) is not null", table):
                continue
            found.append(mart.name)
            keys, stamp = mart.join_keys, mart.timestamp_field
            present = table_indexes(connection, table)
            if mart.compare_every and (lack := present.hindrance(mart)):
                problem = f"{lack[0]}, which its compare_every needs"
                raise RunnerError(problem, hint=f"{lack[1]} ({mart.file})")
            if present.key_order(keys, stamp) is None:
                created = mart.created_timestamp_column
                advice = index_advice(connection, table, keys, stamp, created)
                if advice:
                    raise RunnerError(advice[0], hint=f"{advice[1]} ({mart.file})")
    return f"as the join needs them: {', '.join(found)}" if found else "no feature mart is built"


def feast_registry(settings: Settings) -> str:
    """See that Feast can read its registry."""
    _require_options(settings)
    with _connect(settings) as connection:
        # By SQL: Feast would create what is missing, and takes seconds to import.
        table = quote_table(_REGISTRY, "feature_views")
        if not _value(connection, "select to_regclass(%s) is not null", table):
            return "not there yet; the first `runner train` fills it"
        project = load_online_config(settings).project
        found = connection.execute(
            f"select feature_view_name from {table} where project_id = %s order by 1".encode(),
            [project],
        ).fetchall()
    return f"feature views: {', '.join(name for (name,) in found) or 'none'}"


def _require_options(settings: Settings) -> None:
    """See that start-up options arrive, if Feast's registry is found by one."""
    if "search_path" not in settings.feature_store_yaml.read_text():
        return
    address = settings.postgres
    try:
        with psycopg.connect(**address.conninfo, options=f"-csearch_path={_REGISTRY}") as found:  # type: ignore[arg-type]
            path = _value(found, "select current_setting('search_path')")
        told = "drops"
    except psycopg.OperationalError as err:
        if "unsupported startup parameter" not in str(err):
            raise
        path, told = None, "refuses"
    if path != _REGISTRY:
        raise RunnerError(
            f"{address.host}:{address.port} is a pooler that {told} start-up options, so "
            f"{settings.feature_store_yaml} does not lead to the schema {_REGISTRY}",
            hint="write its registry as `runner init` does: `path: postgresql+psycopg://` and a "
            "schema_translate_map; or set PGPORT to the server's own port",
        )


@contextmanager
def _connect(settings: Settings) -> Iterator[psycopg.Connection]:
    with psycopg.connect(**settings.postgres.conninfo, autocommit=True) as connection:  # type: ignore[arg-type]
        yield connection


def _value(connection: psycopg.Connection, query: str, *values: Any) -> Any:
    row = connection.execute(query.encode(), values).fetchone()
    return row[0] if row else None


def _marts(settings: Settings) -> list[FeatureMart]:
    if not settings.manifest_path.is_file():
        return []
    return list(load_manifest(settings.manifest_path).marts.values())


def _relations(settings: Settings) -> list[Any]:
    if not settings.manifest_path.is_file():
        return []
    manifest = load_manifest(settings.manifest_path)
    return [*manifest.marts.values(), *manifest.spines.values()]

"""The answer does not depend on how the environment, the database or a pooler sets the session."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pytest
from feast import Entity, FeatureStore, FeatureView, Field
from feast.types import String
from feast.value_type import ValueType

from runner.project.manifest import FeatureMart, MartColumn
from runner.settings import PostgresAddress
from runner.warehouse.postgres.estimates import open_estimates
from runner.warehouse.postgres.mart import open_postgres_mart
from tests.feast_stores import feast_store, source
from tests.pooler import pooler

SPINE = """
select 'é' as id, '07/06/2024'::timestamptz as event_timestamp,
    '2024-07-06 23:30+00'::timestamptz::date::text as day, interval '1 day'::text as span
"""
ANSWER = {
    "id": "é",
    "event_timestamp": datetime(2024, 7, 6, tzinfo=UTC),
    "day": "2024-07-06",
    "span": "1 day",
    "name": "é",
    "backslash": "\\n",
}
SESSION = {
    "timezone": "'America/New_York'",
    "datestyle": "'SQL, DMY'",
    "intervalstyle": "'iso_8601'",
    "standard_conforming_strings": "off",
    "escape_string_warning": "off",
}


@pytest.fixture(scope="module")
def database(module_database: PostgresAddress) -> PostgresAddress:
    with psycopg.connect(**module_database.conninfo, autocommit=True) as connection:
        connection.execute(
            "create table facts as select 'é'::text as id, 'é'::text as name, "
            "'\\n'::text as backslash, timestamptz '2024-07-05 23:59:59+00' as event_timestamp"
        )
        connection.execute("create index on facts (id, event_timestamp)")
        for name, value in SESSION.items():
            connection.execute(f"alter database {module_database.database} set {name} = {value}")
    return module_database


def _store(address: PostgresAddress, folder: Path) -> FeatureStore:
    entity = Entity(name="id", join_keys=["id"], value_type=ValueType.STRING)
    fields = [Field(name=name, dtype=String) for name in ("id", "name", "backslash")]
    view = FeatureView(
        name="facts", entities=[entity], schema=fields, source=source("facts", "facts", created="")
    )
    return feast_store(address, folder, [entity, view])


def _joined(store: FeatureStore, entities: Any) -> list[dict[str, Any]]:
    job = store.get_historical_features(entities, ["facts:name", "facts:backslash"])
    rows: list[dict[str, Any]] = job.to_arrow().to_pylist()
    return rows


def _assert_right(address: PostgresAddress, folder: Path) -> None:
    store = _store(address, folder)
    assert _joined(store, SPINE) == [ANSWER]
    frame = pd.DataFrame({"id": ["é"], "event_timestamp": [pd.Timestamp("2024-07-06", tz="UTC")]})
    found = {key: ANSWER[key] for key in ("id", "name", "backslash")}
    assert [row | found == row for row in _joined(store, frame)] == [True]
    with open_postgres_mart(address, _mart()) as mart:
        assert mart.existing(ANSWER["event_timestamp"], [["é"], ["\\"], ["o'"]]) == {1}
        (batch,) = mart.newest_rows(ANSWER["event_timestamp"], None)
    assert batch.to_pylist()[0]["name"] == "é"
    with open_estimates(address) as estimates:
        assert estimates.expected("select '07/06/2024'::date", None).rows == 1


def _mart() -> FeatureMart:
    names = ("id", "name", "backslash")
    columns = {name: MartColumn(name, "string", "") for name in names}
    columns["event_timestamp"] = MartColumn("event_timestamp", "timestamp", "")
    return FeatureMart(
        *("facts", "", "public", "facts", "", "facts.yml", ""),
        tags=(),
        entities={"id": "id"},
        columns=columns,
        compiled_code=None,
        ttl=None,
        timestamp_field="event_timestamp",
        created_timestamp_column=None,
        online=True,
    )


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"PGTZ": "Asia/Tokyo"},
        {"PGDATESTYLE": "German, DMY"},
        {"PGCLIENTENCODING": "LATIN1"},
        {"PGOPTIONS": "-c timezone=Asia/Tokyo"},
    ],
    ids=str,
)
def test_neither_the_environment_nor_the_database_changes_the_answer(
    database: PostgresAddress,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    _assert_right(database, tmp_path)


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
def test_a_truncate_that_commits_while_the_join_waits_empties_no_feature(
    database: PostgresAddress, tmp_path: Path, isolation: str
) -> None:
    """The join's query locks the table before its snapshot, whatever isolation is the default."""
    job = _store(database, tmp_path).get_historical_features(SPINE, ["facts:name"])
    default = f"alter database {database.database} set default_transaction_isolation ="
    with (
        psycopg.connect(**database.conninfo, autocommit=True) as admin,
        psycopg.connect(**database.conninfo) as writer,
        ThreadPoolExecutor() as pool,
    ):
        admin.execute(f"{default} '{isolation}'")
        writer.execute("create temporary table old as table facts")
        writer.execute("truncate facts")
        writer.execute("insert into facts select * from old")
        joined = pool.submit(job.to_arrow)
        waiting = "select count(*) from pg_locks where not granted"
        while not joined.done() and admin.execute(waiting).fetchone() == (0,):
            time.sleep(0.01)
        writer.commit()
        assert joined.result()["name"].to_pylist() == ["é"]


@pytest.mark.parametrize("more", ["", "ignore_startup_parameters = options"])
def test_a_pooler_that_refuses_or_drops_options_gives_the_same(
    database: PostgresAddress, tmp_path: Path, more: str
) -> None:
    with pooler(database, tmp_path, more) as address:
        _assert_right(address, tmp_path)


def test_feasts_registry_is_in_its_schema_behind_a_pooler(
    database: PostgresAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runner.feature_store.store import open_store
    from runner.settings import read_settings
    from tests.small_project import write_project

    root = write_project(tmp_path / "project")
    with psycopg.connect(**database.conninfo, autocommit=True) as connection:
        connection.execute("create schema feast_registry")
        with pooler(database, tmp_path, "ignore_startup_parameters = options") as address:
            for name, value in address.conninfo.items():
                monkeypatch.setenv(
                    f"PG{'DATABASE' if name == 'dbname' else name.upper()}", str(value)
                )
            store = open_store(read_settings("local", root))
            store.apply([Entity(name="id", join_keys=["id"], value_type=ValueType.INT64)])
            assert [entity.name for entity in store.list_entities()] == ["id"]
        found = connection.execute("select entity_name from feast_registry.entities").fetchall()
    assert ("id",) in found

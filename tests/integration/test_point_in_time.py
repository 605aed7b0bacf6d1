"""The point-in-time join against a brute-force oracle, on generated rows.

One example is a dozen small worlds that share no key, each with its own feature and spine rows;
one query joins all of them to all views. Set RUNNER_EXAMPLES for a longer run (default 60).
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import pandas as pd
import psycopg
import pytest
from feast import Entity, FeatureStore, FeatureView, Field
from feast.types import Float64, Int64, String
from feast.value_type import ValueType
from hypothesis import HealthCheck, example, given, settings

from runner.settings import PostgresAddress
from tests import oracle
from tests.feast_stores import feast_store, source
from tests.worlds import TTL, World, assert_same, edges, worlds_of_rows

EXAMPLES = int(os.environ.get("RUNNER_EXAMPLES", "60"))
FEATURES = ["number", "text", "real"]
SPINE_COLUMNS = ["world", "name", "other", "event_timestamp", "label"]
COLUMNS = ["world", "name", "event_timestamp", "created_at", *FEATURES]

_TABLE = """
create table {name} (
    world bigint,
    "Select" text,
    event_timestamp {time},
    created_at {time},
    number bigint,
    text text,
    real double precision
)
"""
_SPINE = """
create table spine (
    "order" bigint, world integer, name varchar, other text, event_timestamp timestamptz, label text
)
"""
_KEYS = {"world": "world", "name": "name"}
_OTHER = {"world": "world", "other": "name"}

# name in the retrieval, table or query, index?, keys, ttl, created timestamp?
CASES: list[tuple[str, str, dict[str, str], timedelta | None, bool]] = [
    ("indexed", "indexed", _KEYS, None, True),
    ("indexed_ttl", "indexed", _KEYS, TTL, True),
    ("indexed_short", "indexed", _KEYS, timedelta(microseconds=1), False),
    ("plain", "plain", _KEYS, None, False),
    ("plain_ttl", "plain", _KEYS, TTL, True),
    ("queried", "select * from plain where world is not null", _KEYS, TTL, True),
    ("naive", "naive", _KEYS, TTL, True),
    ("naive_plain", "naive_plain", _KEYS, None, True),
    ("keyless", "indexed", {}, TTL, True),
    ("keyless_plain", "plain", {}, None, True),
    ("other", "indexed", _OTHER, TTL, True),
]


@pytest.fixture(scope="module")
def connection(module_database: PostgresAddress) -> Any:
    with psycopg.connect(**module_database.conninfo, autocommit=True) as connection:
        # The answer must not depend on the zone of the database.
        connection.execute(
            f"alter database {module_database.database} set timezone = 'America/New_York'"
        )
        for name in ("indexed", "plain"):
            connection.execute(_TABLE.format(name=name, time="timestamptz"))
        for name in ("naive", "naive_plain"):
            connection.execute(_TABLE.format(name=name, time="timestamp"))
        for name in ("indexed", "naive"):
            connection.execute(f'create index on {name} ("Select", world, event_timestamp)')
        connection.execute("create index on indexed (event_timestamp)")
        connection.execute(_SPINE)
        yield connection


@pytest.fixture(scope="module")
def store(
    connection: Any, module_database: PostgresAddress, tmp_path_factory: pytest.TempPathFactory
) -> FeatureStore:
    folder = tmp_path_factory.mktemp("feast")
    return feast_store(module_database, folder, _feast_objects())


def _feast_objects() -> list[Any]:
    entities = {
        "world": Entity(name="world", join_keys=["world"], value_type=ValueType.INT64),
        "name": Entity(name="name", join_keys=["name"], value_type=ValueType.STRING),
        "other": Entity(name="other", join_keys=["other"], value_type=ValueType.STRING),
    }
    views = []
    for name, relation, keys, ttl, has_created in CASES:
        key_fields = [Field(name=key, dtype=Int64 if key == "world" else String) for key in keys]
        text_key = next((key for key in keys if key != "world"), None)
        views.append(
            FeatureView(
                name=name,
                entities=[entities[key] for key in keys],
                ttl=ttl or timedelta(0),
                schema=[
                    *key_fields,
                    Field(name="number", dtype=Int64),
                    Field(name="text", dtype=String),
                    Field(name="real", dtype=Float64),
                ],
                source=source(
                    name,
                    relation,
                    created="created_at" if has_created else "",
                    field_mapping={"Select": text_key} if text_key else {},
                ),
            )
        )
    return [*entities.values(), *views]


def _expected(feature_table: list[oracle.Row], spine: list[oracle.Row]) -> list[oracle.Row]:
    views = []
    for name, _, keys, ttl, has_created in CASES:
        view = oracle.View(name, keys, FEATURES, ttl, "created_at" if has_created else None)
        views.append((view, feature_table))
    return oracle.join(spine, views)


def _fill(connection: Any, features: list[oracle.Row], spine: list[oracle.Row]) -> None:
    with connection.cursor() as cursor, connection.transaction():
        cursor.execute("set local timezone = 'UTC'")
        cursor.execute("truncate indexed, plain, naive, naive_plain, spine")
        for table in ("indexed", "plain", "naive", "naive_plain"):
            with cursor.copy(f"copy {table} from stdin") as copy:
                for row in features:
                    copy.write_row([row[column] for column in COLUMNS])
        with cursor.copy("copy spine from stdin") as copy:
            for number, row in enumerate(spine):
                copy.write_row(
                    [
                        number,
                        *(row[c] for c in ("world", "name", "other", "event_timestamp", "label")),
                    ]
                )


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@example(worlds=edges())
@given(worlds=worlds_of_rows)
def test_every_row_sees_exactly_what_the_oracle_sees(
    worlds: list[World],
    connection: Any,
    store: FeatureStore,
) -> None:
    features = [{"world": n, **row} for n, (rows, _) in enumerate(worlds) for row in rows]
    spine = [{"world": n, **row} for n, (_, rows) in enumerate(worlds) for row in rows]
    _fill(connection, features, spine)
    refs = [f"{name}:{feature}" for name, *_ in CASES for feature in FEATURES]

    expected = _expected(features, spine)

    by_query = store.get_historical_features(
        entity_df=f'select {", ".join(SPINE_COLUMNS)} from spine order by "order" ; ',
        features=refs,
        full_feature_names=True,
    ).to_arrow()
    assert_same(by_query.to_pylist(), expected)

    frame = pd.DataFrame(spine, columns=SPINE_COLUMNS)
    frame["event_timestamp"] = pd.to_datetime(frame["event_timestamp"], utc=True)
    by_frame = store.get_historical_features(
        entity_df=frame, features=refs, full_feature_names=True
    ).to_arrow()
    assert_same(by_frame.to_pylist(), expected)

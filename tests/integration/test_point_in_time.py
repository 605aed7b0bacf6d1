"""The point-in-time join against a brute-force oracle, on generated rows.

One example is a dozen small worlds that share no key, each with its own feature and spine rows;
one query joins all of them to all views. Set RUNNER_EXAMPLES for a longer run (default 60).
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from feast import FeatureStore
from hypothesis import example, given

from runner.settings import PostgresAddress
from tests import oracle
from tests.feast_stores import feast_store, source
from tests.worlds import (
    COLUMNS,
    KEYS,
    NEVER,
    OTHER,
    SPINE_COLUMNS,
    TTL,
    Case,
    FrameTypes,
    World,
    assert_joined_as_the_oracle_does,
    edges,
    feast_objects,
    frame_types,
    in_examples,
    merged,
    worlds_of_rows,
)

EXAMPLES = int(os.environ.get("RUNNER_EXAMPLES", "60"))

_SESSION = {
    "timezone": "America/New_York",
    "datestyle": "SQL, DMY",
    "intervalstyle": "iso_8601",
    "standard_conforming_strings": "off",
    "escape_string_warning": "off",
}
_ENVIRONMENT = {"PGTZ": "Asia/Tokyo", "PGDATESTYLE": "German", "PGCLIENTENCODING": "LATIN1"}
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
# The index of a parent says nothing of what its child holds: here, everything.
_INHERITED = """
create table inherited (like plain);
create unique index on inherited ("Select", world, event_timestamp, created_at);
create table child () inherits (inherited);
"""
_PARTED = """
create table parted (like plain) partition by range (event_timestamp);
create table parted_late partition of parted for values from ('2024-06-01') to ('infinity');
create table parted_rest partition of parted default;
create index on parted ("Select", world, event_timestamp);
"""
_FILLED = ("indexed", "plain", "naive", "naive_plain", "child", "parted")
CASES = [
    Case("indexed", "indexed", KEYS, None, has_created=True),
    Case("indexed_ttl", "indexed", KEYS, TTL, has_created=True),
    Case("indexed_short", "indexed", KEYS, timedelta(microseconds=1), has_created=False),
    Case("plain", "plain", KEYS, None, has_created=False),
    Case("plain_ttl", "plain", KEYS, TTL, has_created=True),
    Case("queried", "select * from SPINE_v1 where world is not null", KEYS, TTL, has_created=True),
    Case("inherited", "inherited", KEYS, TTL, has_created=True),
    Case("parted", "parted", KEYS, TTL, has_created=True),
    Case("naive", "naive", KEYS, TTL, has_created=True),
    Case("naive_plain", "naive_plain", KEYS, None, has_created=True),
    Case("keyless", "indexed", {}, TTL, has_created=True),
    Case("keyless_plain", "plain", {}, None, has_created=True),
    Case("other", "indexed", OTHER, TTL, has_created=True),
    Case("a__b" * 15, "indexed", KEYS, TTL, has_created=True),
    Case("größe" * 12, "plain", KEYS, TTL, has_created=True),
    Case("Order By", "naive", KEYS, None, has_created=True),
]


@pytest.fixture(scope="module")
def connection(module_database: PostgresAddress) -> Any:
    with psycopg.connect(**module_database.conninfo, autocommit=True) as connection:
        # The answer must not depend on how the database or the environment sets the session.
        for name, value in _SESSION.items():
            connection.execute(f"alter database {module_database.database} set {name} = '{value}'")
        for name in ("indexed", "plain"):
            connection.execute(_TABLE.format(name=name, time="timestamptz"))
        for name in ("naive", "naive_plain"):
            connection.execute(_TABLE.format(name=name, time="timestamp"))
        for name in ("indexed", "naive"):
            connection.execute(f'create index on {name} ("Select", world, event_timestamp)')
        connection.execute("create index on indexed (event_timestamp)")
        connection.execute("create view spine_v1 as select * from plain")
        connection.execute(_INHERITED)
        connection.execute(_PARTED)
        connection.execute(_SPINE)
        yield connection


@pytest.fixture(scope="module")
def store(
    connection: Any, module_database: PostgresAddress, tmp_path_factory: pytest.TempPathFactory
) -> FeatureStore:
    os.environ.update(_ENVIRONMENT)
    folder = tmp_path_factory.mktemp("feast")
    return feast_store(module_database, folder, feast_objects(CASES, source))


def _fill(connection: Any, features: list[oracle.Row], spine: list[oracle.Row]) -> None:
    with connection.cursor() as cursor, connection.transaction():
        cursor.execute("set local timezone = 'UTC'")
        cursor.execute(f"truncate {', '.join(_FILLED)}, spine")
        for table in _FILLED:
            with cursor.copy(f"copy {table} from stdin") as copy:
                for row in features:
                    values = [row[column] for column in COLUMNS]
                    copy.write_row(["infinity" if value == NEVER else value for value in values])
        with cursor.copy("copy spine from stdin") as copy:
            for number, row in enumerate(spine):
                copy.write_row([number, *(row[column] for column in SPINE_COLUMNS)])


@in_examples(EXAMPLES)
@example(worlds=edges(), types={})
@given(worlds=worlds_of_rows, types=frame_types)
def test_every_row_sees_exactly_what_the_oracle_sees(
    worlds: list[World], types: FrameTypes, connection: Any, store: FeatureStore
) -> None:
    rows = merged(worlds)
    _fill(connection, *rows)
    query = f'select {", ".join(SPINE_COLUMNS)} from spine order by "order" ; '
    assert_joined_as_the_oracle_does(store, CASES, rows, query, types)

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
    OTHER,
    SPINE_COLUMNS,
    TTL,
    Case,
    World,
    assert_joined_as_the_oracle_does,
    edges,
    feast_objects,
    in_examples,
    merged,
    worlds_of_rows,
)

EXAMPLES = int(os.environ.get("RUNNER_EXAMPLES", "60"))

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
CASES = [
    Case("indexed", "indexed", KEYS, None, has_created=True),
    Case("indexed_ttl", "indexed", KEYS, TTL, has_created=True),
    Case("indexed_short", "indexed", KEYS, timedelta(microseconds=1), has_created=False),
    Case("plain", "plain", KEYS, None, has_created=False),
    Case("plain_ttl", "plain", KEYS, TTL, has_created=True),
    Case("queried", "select * from plain where world is not null", KEYS, TTL, has_created=True),
    Case("naive", "naive", KEYS, TTL, has_created=True),
    Case("naive_plain", "naive_plain", KEYS, None, has_created=True),
    Case("keyless", "indexed", {}, TTL, has_created=True),
    Case("keyless_plain", "plain", {}, None, has_created=True),
    Case("other", "indexed", OTHER, TTL, has_created=True),
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
    return feast_store(module_database, folder, feast_objects(CASES, source))


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
                copy.write_row([number, *(row[column] for column in SPINE_COLUMNS)])


@in_examples(EXAMPLES)
@example(worlds=edges())
@given(worlds=worlds_of_rows)
def test_every_row_sees_exactly_what_the_oracle_sees(
    worlds: list[World], connection: Any, store: FeatureStore
) -> None:
    rows = merged(worlds)
    _fill(connection, *rows)
    query = f'select {", ".join(SPINE_COLUMNS)} from spine order by "order" ; '
    assert_joined_as_the_oracle_does(store, CASES, rows, query)

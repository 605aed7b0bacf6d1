"""The point-in-time join against a brute-force oracle, on generated rows.

One example is a dozen small worlds that share no key, each with its own feature and spine rows;
one query joins all of them to all views. Set RUNNER_EXAMPLES for a longer run (default 60).
"""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import psycopg
import pytest
from feast import Entity, FeatureStore, FeatureView, Field
from feast.types import Float64, Int64, String
from feast.value_type import ValueType
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runner.settings import PostgresAddress
from tests import oracle
from tests.feast_stores import feast_store, source

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
_TTL = timedelta(seconds=10)

# name in the retrieval, table or query, index?, keys, ttl, created timestamp?
CASES: list[tuple[str, str, dict[str, str], timedelta | None, bool]] = [
    ("indexed", "indexed", _KEYS, None, True),
    ("indexed_ttl", "indexed", _KEYS, _TTL, True),
    ("indexed_short", "indexed", _KEYS, timedelta(microseconds=1), False),
    ("plain", "plain", _KEYS, None, False),
    ("plain_ttl", "plain", _KEYS, _TTL, True),
    ("queried", "select * from plain where world is not null", _KEYS, _TTL, True),
    ("naive", "naive", _KEYS, _TTL, True),
    ("naive_plain", "naive_plain", _KEYS, None, True),
    ("keyless", "indexed", {}, _TTL, True),
    ("keyless_plain", "plain", {}, None, True),
    ("other", "indexed", _OTHER, _TTL, True),
]

_BASES = [
    datetime(2024, 3, 10, 7, tzinfo=UTC),  # New York's clocks go forward
    datetime(2024, 11, 3, 6, tzinfo=UTC),  # and back
    datetime(1931, 5, 1, tzinfo=UTC),
]
_MICROSECOND = timedelta(microseconds=1)
_OFFSETS = [
    timedelta(0),
    _MICROSECOND,
    _TTL - _MICROSECOND,
    _TTL,
    _TTL + _MICROSECOND,
    timedelta(hours=1),
    timedelta(hours=24),
]
names = st.sampled_from([None, "", "1", "12", "3", "23", "a", "A", " a", "å", "日本", "x'\"\\,|%s"])
characters = st.characters(codec="utf-8", exclude_characters="\0")
texts = st.one_of(st.none(), st.text(characters, max_size=3))
World = tuple[list[oracle.Row], list[oracle.Row]]


@st.composite
def rows_of_a_world(draw: st.DrawFn) -> World:
    """Feature and spine rows about one instant and a few names, so that they meet often."""
    base = draw(st.sampled_from(_BASES))
    around = [base + sign * offset for offset in _OFFSETS for sign in (-1, 1)]
    times = st.sampled_from([base, base, *around, None])
    keys = st.sampled_from(draw(st.lists(names, min_size=1, max_size=3)))
    feature = st.fixed_dictionaries(
        {
            "name": keys,
            "event_timestamp": times,
            "created_at": times,
            "number": st.sampled_from([None, 0, 1, 2**53 + 1, -(2**63)]),
            "text": texts,
            "real": st.sampled_from([None, math.nan, math.inf, 0.5, -1.0]),
        }
    )
    row = st.fixed_dictionaries(
        {"name": keys, "other": keys, "event_timestamp": times, "label": texts}
    )
    return draw(st.lists(feature, max_size=10)), draw(st.lists(row, max_size=6))


worlds_of_rows = st.lists(rows_of_a_world(), min_size=1, max_size=12)


def _edges() -> list[World]:
    """Worlds of one feature row and one spine row, at every distance that matters."""
    found: list[World] = []
    for base in _BASES:
        for age in (*_OFFSETS, -_MICROSECOND):
            for known_after in (timedelta(0), _MICROSECOND, -_MICROSECOND, None):
                created = None if known_after is None else base + known_after
                feature = {"name": "a", "event_timestamp": base - age, "created_at": created}
                feature |= {"number": 1, "text": "t", "real": 0.5}
                row = {"name": "a", "other": "a", "event_timestamp": base, "label": None}
                found.append(([feature], [row]))
    return found


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


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return (type(left) is type(right) and left == right) or left == right


def _assert_same(found: list[oracle.Row], expected: list[oracle.Row]) -> None:
    assert len(found) == len(expected)
    for found_row, expected_row in zip(found, expected, strict=True):
        for column, value in expected_row.items():
            assert _same(found_row[column], value), (column, expected_row, found_row[column])


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@example(worlds=_edges())
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
    _assert_same(by_query.to_pylist(), expected)

    frame = pd.DataFrame(spine, columns=SPINE_COLUMNS)
    frame["event_timestamp"] = pd.to_datetime(frame["event_timestamp"], utc=True)
    by_frame = store.get_historical_features(
        entity_df=frame, features=refs, full_feature_names=True
    ).to_arrow()
    _assert_same(by_frame.to_pylist(), expected)

"""What materialization refuses, as the point-in-time join does: times, keys and types."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from runner.errors import RunnerError
from runner.settings import PostgresAddress
from tests.instants import at
from tests.online_project import OnlineProject, redis_key, serialized

NO_TIME = "infinite or outside the years 1 to 9999"


@pytest.fixture
def project(tmp_path: Path, database: PostgresAddress, redis_url: str) -> Iterator[OnlineProject]:
    made = OnlineProject(tmp_path, database, redis_url)
    yield made
    made.sql.close()


def _assert_refused(project: OnlineProject, message: str) -> None:
    for full in (False, True):
        with pytest.raises(RunnerError, match=re.escape(message)):
            project.materialize(full=full)
    assert project.online() == {}


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("time", ["-infinity", "0044-03-15 BC"])
def test_an_event_time_that_is_none_is_refused(
    project: OnlineProject, time: str, index: bool
) -> None:
    mart = project.mart("v", {"id": "int64"}, {"x": "int64"}, created=False, index=index)
    project.insert(mart, [1, time, 7], [2, at(-1), 8])
    _assert_refused(project, f"feature mart v: event_timestamp is {NO_TIME} in 1 rows, such as ")


def test_a_created_time_of_minus_infinity_is_refused(project: OnlineProject) -> None:
    mart = project.mart("v", {"id": "int64"}, {"x": "int64"})
    project.insert(mart, [1, at(-1), "-infinity", 7])
    _assert_refused(project, f"feature mart v: created_at is {NO_TIME} in 1 rows, such as -inf")


def test_a_time_that_never_comes_or_is_long_gone_is_not_written(project: OnlineProject) -> None:
    mart = project.mart("v", {"id": "int64"}, {"x": "int64"}, ttl=timedelta(days=1), created=False)
    project.insert(mart, [1, "infinity", 7], [2, "-infinity", 8])
    project.materialize()
    assert project.online() == {}


@pytest.mark.parametrize("time", ["infinity", "-infinity", "10000-01-01"])
def test_a_feature_that_is_a_time_that_is_none_is_refused(
    project: OnlineProject, time: str
) -> None:
    mart = project.mart("v", {"id": "int64"}, {"seen": "timestamp"}, created=False)
    project.insert(mart, [1, at(-1), time], [2, at(-1), at(-2)])
    _assert_refused(project, f"feature mart v: seen is {NO_TIME} in 1 of 2 rows")


def test_keys_that_would_run_together_are_refused(project: OnlineProject) -> None:
    mart = project.mart("v", {"at": "timestamp"}, {"x": "int64"}, created=False)
    project.insert(mart, ["2025-01-01 00:00:00.1", at(-1), 7], ["2025-01-01", at(-1), 8])
    _assert_refused(project, "join key at has a fraction of a second: 2025-01-01 00:00:00.1")


@pytest.mark.parametrize("kind", ["double precision", "numeric", "text"])
def test_a_feature_of_another_type_than_declared_is_refused(
    project: OnlineProject, kind: str
) -> None:
    project.mart("v", {"id": "int64"}, {"x": "int64"}, created=False)
    project.sql.execute(f"alter table feature_mart.v alter x type {kind}")
    told = {"double precision": "float8"}.get(kind, kind)
    _assert_refused(project, f"feature x is declared INT64 but its column is {told}")


def test_rows_of_an_inheriting_table_are_compared_although_its_parent_has_a_unique_index(
    project: OnlineProject,
) -> None:
    mart = project.mart("v", {"id": "int64"}, {"x": "int64"}, created=False, index=False)
    project.sql.execute("create unique index on feature_mart.v (id, event_timestamp)")
    project.sql.execute("create table feature_mart.child () inherits (feature_mart.v)")
    project.insert(mart, [1, at(-1), 7])
    project.sql.execute(
        "insert into feature_mart.child select id, event_timestamp, x + 1 from only feature_mart.v"
    )
    project.materialize()
    assert project.online() == project.expected()


@pytest.mark.parametrize(
    ("kind", "dtype", "keys"),
    [
        ("smallint", "int32", [-5, 7]),
        ("feature_mart.mood", "string", ["glad", "sad"]),
        ("uuid", "string", [str(UUID(int=1)), str(UUID(int=2))]),
        ("date", "string", ["2024-05-01", "1969-12-31"]),
        ("boolean", "string", ["true", "false"]),
    ],
)
def test_a_key_is_stored_as_what_it_is_declared(
    project: OnlineProject, kind: str, dtype: str, keys: list[Any]
) -> None:
    """And found again, so that the entity which left is removed and the other one stays."""
    mart = project.mart("v", {"id": dtype}, {"x": "int64"}, created=False)
    project.sql.execute("create type feature_mart.mood as enum ('sad', 'glad')")
    project.sql.execute(f"alter table feature_mart.v alter id type {kind} using id::text::{kind}")
    project.insert(mart, *[[key, at(-1), 7] for key in keys])
    row = serialized(mart, {"event_timestamp": at(-1), "x": 7})
    for left in (keys, keys[1:]):
        project.delete(mart, f"not id::text = any(array{[str(key) for key in left]})")
        project.materialize()
        assert project.online() == {redis_key(mart, {"id": key}): row for key in left}


@pytest.mark.parametrize(
    ("kind", "dtype", "cast"),
    [
        ("boolean", "int64", "bigint"),
        ("uuid", "int32", "integer"),
        ("date", "int64", "bigint"),
        ("feature_mart.mood", "int64", "bigint"),
        ("bigint", "int32", "integer"),
    ],
)
def test_a_key_that_is_not_what_it_is_declared_is_refused_with_the_cast(
    project: OnlineProject, kind: str, dtype: str, cast: str
) -> None:
    project.mart("v", {"id": dtype}, {"x": "int64"}, created=False)
    project.sql.execute("create type feature_mart.mood as enum ('sad', 'glad')")
    project.sql.execute(f"alter table feature_mart.v alter id type {kind} using null")
    with pytest.raises(RunnerError, match="join key id is declared") as refused:
        project.materialize()
    assert refused.value.hint.startswith(f"write `cast(id as {cast})` in the SQL of its dbt model")

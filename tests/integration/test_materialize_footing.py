"""An incremental run goes on only from a table whose rows mean what they meant; else all is copied.

PostgreSQL's row versions say when a row was written, not what happened to the table around it.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from runner.online.view_report import FULL, INCREMENTAL
from runner.project.manifest import FeatureMart
from runner.settings import PostgresAddress
from tests.instants import at
from tests.online_project import OnlineProject

_TABLE = "feature_mart.v"
_COLUMNS = "id, event_timestamp, created_at, a, b"


@pytest.fixture
def project(tmp_path: Path, database: PostgresAddress, redis_url: str) -> Iterator[OnlineProject]:
    made = OnlineProject(tmp_path, database, redis_url)
    yield made
    made.sql.close()


@pytest.fixture
def mart(project: OnlineProject) -> FeatureMart:
    """Return a mart of two entities, copied once."""
    mart = project.mart("v", {"id": "int64"}, {"a": "int64", "b": "int64"})
    project.sql.execute(f"create unique index one_per_time on {_TABLE} (id, event_timestamp)")
    project.insert(mart, [1, at(-3), at(-3), 1, 2], [2, at(-3), at(-3), 3, 4])
    project.materialize(-1)
    return mart


def _then(project: OnlineProject) -> str:
    report = project.materialize()[0]
    assert project.online() == project.expected()
    return report.mode


_CHANGES = {
    "features renamed crosswise": [
        f"alter table {_TABLE} rename a to c",
        f"alter table {_TABLE} rename b to a",
        f"alter table {_TABLE} rename c to b",
    ],
    "a column dropped and added again": [
        f"alter table {_TABLE} drop column b",
        f"alter table {_TABLE} add column b bigint default 9",
    ],
    "truncated and filled": [
        f"create table old as table {_TABLE}",
        f"begin; truncate {_TABLE}; insert into {_TABLE} select {_COLUMNS} from old; commit",
    ],
    "swapped by rename": [
        f"create table feature_mart.w (like {_TABLE} including all)",
        f"insert into feature_mart.w select id, event_timestamp, created_at, b, a from {_TABLE}",
        f"alter table {_TABLE} rename to old",
        "alter table feature_mart.w rename to v",
    ],
    "a unique index replaced": [
        "drop index feature_mart.one_per_time",
        f"create unique index on {_TABLE} (id, event_timestamp)",
    ],
    "a child table": [f"create table feature_mart.child () inherits ({_TABLE})"],
}


@pytest.mark.parametrize("change", _CHANGES)
def test_a_table_that_changed_is_copied_in_full(
    project: OnlineProject, mart: FeatureMart, change: str
) -> None:
    for statement in _CHANGES[change]:
        project.sql.execute(statement.encode())
    assert _then(project) == FULL
    assert project.materialize()[0].mode == INCREMENTAL


@pytest.mark.parametrize(
    "behind", ["v", "a view", "a materialized view"], ids=["table", "view", "materialized view"]
)
def test_a_truncate_that_commits_during_a_run_removes_nothing(
    project: OnlineProject, mart: FeatureMart, behind: str
) -> None:
    """PostgreSQL empties the table for a snapshot that is older than the truncate."""
    if behind != "v":
        project.sql.execute(
            f'create {behind[2:]} feature_mart."{behind}" as table {_TABLE}'.encode()
        )
        project.marts[0] = dataclasses.replace(mart, alias=behind)
        project.materialize(-0.5)
    with psycopg.connect(project.sql.info.dsn, password=project.sql.info.password) as writer:
        writer.execute(f"create temporary table old as table {_TABLE}")
        writer.execute(f"truncate {_TABLE}")
        writer.execute(f"insert into {_TABLE} select {_COLUMNS} from old")
        with ThreadPoolExecutor() as pool:
            run = pool.submit(project.materialize)
            while not run.done() and not _waits_for_a_lock(project):
                time.sleep(0.01)
            writer.commit()
            report = run.result()[0]
    assert (report.entities, report.removed) == (2, 0)
    assert project.online() == project.expected()


def _waits_for_a_lock(project: OnlineProject) -> bool:
    found = project.sql.execute("select count(*) from pg_locks where not granted").fetchone()
    return found is not None and found[0] > 0


def test_a_table_swapped_for_an_older_one_is_copied_in_full(project: OnlineProject) -> None:
    """The rows of the other table were written before the last run, so no version gives it away."""
    mart = project.mart("v", {"id": "int64"}, {"a": "int64"})
    project.sql.execute(f"create unique index on {_TABLE} (id, event_timestamp)")
    project.insert(mart, [1, at(-3), at(-3), 1])
    project.sql.execute(f"create table feature_mart.w (like {_TABLE} including all)")
    project.sql.execute(
        f"insert into feature_mart.w select id, event_timestamp, created_at, 5 from {_TABLE}"
    )
    project.materialize(-1)
    project.sql.execute(f"alter table {_TABLE} rename to old")
    project.sql.execute("alter table feature_mart.w rename to v")
    assert _then(project) == FULL


def test_duplicates_deleted_before_a_unique_index_is_made_are_noticed(
    project: OnlineProject,
) -> None:
    mart = project.mart("v", {"id": "int64"}, {"a": "int64"}, created=False)
    project.insert(mart, [1, at(-3), 1], [1, at(-3), 2])
    project.materialize(-1)
    project.delete(mart, "a = 2")
    project.sql.execute(f"create unique index on {_TABLE} (id, event_timestamp)")
    assert _then(project) == FULL


def test_a_unique_index_that_becomes_valid_is_noticed(project: OnlineProject) -> None:
    mart = project.mart("v", {"id": "int64"}, {"a": "int64"}, created=False)
    project.insert(mart, [1, at(-3), 1], [1, at(-3), 2])
    with pytest.raises(psycopg.errors.UniqueViolation):
        project.sql.execute(
            f"create unique index concurrently one on {_TABLE} (id, event_timestamp)"
        )
    project.materialize(-1)
    project.delete(mart, "a = 2")
    project.sql.execute("reindex index feature_mart.one")
    assert _then(project) == FULL


def test_labels_of_an_enum_that_are_renamed_are_noticed(project: OnlineProject) -> None:
    mart = project.mart("v", {"id": "int64"}, {"a": "string"})
    project.sql.execute("create type feature_mart.device as enum ('phone', 'tablet')")
    project.sql.execute(
        f"alter table {_TABLE} alter column a type feature_mart.device using a::feature_mart.device"
    )
    project.sql.execute(f"create unique index on {_TABLE} (id, event_timestamp)")
    project.insert(mart, [1, at(-3), at(-3), "phone"])
    project.materialize(-1)
    project.sql.execute("alter type feature_mart.device rename value 'phone' to 'mobile'")
    assert _then(project) == FULL


def test_a_unique_index_of_a_parent_says_nothing_about_its_children(
    project: OnlineProject,
) -> None:
    mart = project.mart("v", {"id": "int64"}, {"a": "int64"}, created=False)
    project.sql.execute(f"create unique index on {_TABLE} (id, event_timestamp)")
    project.sql.execute(f"create table feature_mart.child () inherits ({_TABLE})")
    project.insert(mart, [1, at(-3), 1])
    project.sql.execute(
        f"insert into feature_mart.child select id, event_timestamp, 2 from {_TABLE}"
    )
    project.materialize(-1)
    project.sql.execute("delete from feature_mart.child")
    _then(project)


def test_a_partition_detached_and_one_attached_is_noticed(project: OnlineProject) -> None:
    mart = project.mart("v", {"id": "int64"}, {"a": "int64"}, created=False)
    project.sql.execute(f"drop table {_TABLE}")
    columns = "id bigint, event_timestamp timestamptz, a bigint"
    project.sql.execute(f"create table {_TABLE} ({columns}) partition by list (id)")
    project.sql.execute(f"create unique index on {_TABLE} (id, event_timestamp)")
    project.sql.execute(f"create table feature_mart.one partition of {_TABLE} for values in (1)")
    project.insert(mart, [1, at(-3), 1])
    project.sql.execute("create table feature_mart.two (like feature_mart.one including all)")
    project.sql.execute(
        "insert into feature_mart.two select id, event_timestamp, 5 from feature_mart.one"
    )
    project.materialize(-1)
    project.sql.execute(f"alter table {_TABLE} detach partition feature_mart.one")
    project.sql.execute(f"alter table {_TABLE} attach partition feature_mart.two for values in (1)")
    assert _then(project) == FULL
    assert project.materialize()[0].mode == INCREMENTAL


def test_the_watermark_of_the_previous_version_means_a_full_copy(
    project: OnlineProject, mart: FeatureMart
) -> None:
    key = "runner:materialize:shop:v"
    with project.redis() as client:
        watermark = json.loads(client.hget(key, "watermark") or "")
        watermark["identity"] = "16384/16385/16386"
        client.hset(key, "watermark", json.dumps(watermark))
        client.hdel(key, "join_keys")
    report = project.materialize()[0]
    assert (report.mode, report.reason) == (FULL, "written by another version")
    assert project.online() == project.expected()


def test_entities_of_former_join_keys_are_removed(
    project: OnlineProject, mart: FeatureMart
) -> None:
    columns = {("user_id" if n == "id" else n): c for n, c in mart.columns.items()}
    columns["user_id"] = dataclasses.replace(columns["user_id"], name="user_id")
    project.sql.execute(f"alter table {_TABLE} rename id to user_id")
    project.marts[0] = dataclasses.replace(mart, entities={"user_id": "user_id"}, columns=columns)
    assert _then(project) == FULL

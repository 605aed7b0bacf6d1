"""Materialization: after every run the whole store equals the oracle's, byte for byte.

Set RUNNER_EXAMPLES for a longer run of the random histories (default 15).
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from runner.errors import RunnerError
from runner.online.materialize import materialize
from runner.online.view_report import FULL, INCREMENTAL, SUPERSEDED
from runner.project.manifest import FeatureMart, MartColumn
from runner.settings import PostgresAddress
from runner.warehouse.postgres.mart import open_postgres_mart
from runner.warehouse.prefetch import prefetched
from tests.changing_table import KEYS, SHAPES, VALUES, ChangingTable
from tests.instants import NOW, at
from tests.online_project import OnlineProject, redis_key, serialized

# Without it, an incremental run cannot know which of two versions of a row was there before.
ONE_ROW_PER_TIME = "create unique index on feature_mart.user_activity (user_id, event_timestamp)"


@pytest.fixture
def project(tmp_path: Path, database: PostgresAddress, redis_url: str) -> Iterator[OnlineProject]:
    made = OnlineProject(tmp_path, database, redis_url)
    yield made
    made.sql.close()


@pytest.fixture
def users(project: OnlineProject) -> FeatureMart:
    return project.mart("user_activity", {"user_id": "int64"}, {"orders_7d": "int64"})


def _row(user: int, hours: float, orders: int | None, *, created: float | None = None) -> list[Any]:
    return [user, at(hours), at(hours if created is None else created), orders]


def test_the_newest_row_of_every_entity_is_stored(
    project: OnlineProject, users: FeatureMart
) -> None:
    project.insert(users, _row(1, -3, 10), _row(1, -2, 20), _row(2, -5, None), _row(-3, -1, 5))
    report = project.materialize()[0]
    assert project.online() == project.expected()
    assert (report.mode, report.entities, report.written, report.removed) == (FULL, 3, 3, 0)


def test_a_row_that_is_not_known_yet_is_left_out(
    project: OnlineProject, users: FeatureMart
) -> None:
    project.insert(users, _row(1, -3, 1), _row(1, 1, 2), _row(1, -2, 3, created=1))
    project.materialize()
    assert project.online() == project.expected()
    assert project.online() == {
        redis_key(users, {"user_id": 1}): serialized(
            users, {"event_timestamp": at(-3), "orders_7d": 1}
        )
    }


def test_rows_that_become_visible_as_time_passes_are_picked_up(
    project: OnlineProject, users: FeatureMart
) -> None:
    project.insert(
        users, _row(1, -3, 1), _row(1, -1, 2), _row(2, -2, 3), _row(2, -2, 4, created=-1)
    )
    project.materialize(-1.5)
    assert project.online() == project.expected(-1.5)
    report = project.materialize(0)[0]
    assert project.online() == project.expected(0)
    assert (report.mode, report.written) == (INCREMENTAL, 2)


def test_an_incremental_run_writes_only_what_changed(
    project: OnlineProject, users: FeatureMart
) -> None:
    project.sql.execute(ONE_ROW_PER_TIME)
    project.insert(users, *[_row(user, -5, user) for user in range(100)])
    project.materialize(-1)
    project.insert(users, _row(7, -0.5, 70), _row(200, -0.5, 1))
    report = project.materialize(0)[0]
    assert (report.mode, report.entities, report.written) == (INCREMENTAL, 101, 2)
    assert project.online() == project.expected(0)


def test_a_late_row_is_found_however_old_its_timestamps_are(
    project: OnlineProject, users: FeatureMart
) -> None:
    project.insert(users, _row(1, -500, 1))
    project.materialize(-1)
    project.insert(users, _row(2, -400, 2), _row(1, -300, 3))
    project.materialize(0)
    assert project.online() == project.expected(0)
    assert len(project.online()) == 2


def test_a_correction_that_is_deleted_gives_way_to_what_it_corrected(
    project: OnlineProject, users: FeatureMart
) -> None:
    project.insert(
        users, _row(1, -3, 1), _row(1, -3, 2, created=-2), _row(2, -3, 5), _row(2, -3, 4)
    )
    project.materialize(-1)
    project.delete(users, "orders_7d in (2, 5)")
    report = project.materialize(0)[0]
    assert (report.mode, report.written, report.removed) == (INCREMENTAL, 2, 0)
    assert project.online() == project.expected(0)


@pytest.mark.parametrize("created", [True, False])
def test_a_correction_at_an_equal_event_time_replaces_the_value(
    project: OnlineProject, created: bool
) -> None:
    mart = project.mart("v", {"user_id": "int64"}, {"orders": "int64"}, created=created)
    project.insert(mart, [1, at(-300), *([at(-300)] if created else []), 5])
    project.materialize(-1)
    if created:
        project.insert(mart, [1, at(-300), at(-200), 4])
    else:
        project.sql.execute("update feature_mart.v set orders = 4")
    report = project.materialize(0)[0]
    assert (report.mode, report.written) == (INCREMENTAL, 1)
    assert project.online() == project.expected(0)


def test_a_deleted_entity_disappears(project: OnlineProject, users: FeatureMart) -> None:
    project.insert(users, _row(1, -3, 1), _row(2, -3, 2))
    project.materialize(-1)
    project.delete(users, "user_id = 1")
    report = project.materialize(0)[0]
    assert (report.mode, report.removed) == (INCREMENTAL, 1)
    assert project.online() == project.expected(0)


def test_when_the_newest_row_is_deleted_the_one_before_it_returns(
    project: OnlineProject, users: FeatureMart
) -> None:
    project.insert(users, _row(1, -3, 1), _row(1, -2, 2))
    project.materialize(-1)
    project.delete(users, "orders_7d = 2")
    project.materialize(0)
    assert project.online() == project.expected(0)
    assert len(project.online()) == 1


def test_an_expired_entity_disappears(project: OnlineProject) -> None:
    mart = project.mart("v", {"user_id": "int64"}, {"orders": "int64"}, ttl=timedelta(hours=4))
    project.insert(mart, [1, at(-5), at(-5), 1], [2, at(-4), at(-4), 2], [3, at(-1), at(-1), 3])
    project.materialize(-1)
    assert len(project.online()) == 3
    report = project.materialize(0)[0]
    assert report.removed == 1
    assert project.online() == project.expected(0)
    assert len(project.online()) == 2


def test_removing_one_view_of_an_entity_leaves_the_others(
    project: OnlineProject, users: FeatureMart
) -> None:
    other = project.mart("user_demographics", {"user_id": "int64"}, {"age": "int32"})
    project.insert(users, _row(1, -3, 1))
    project.insert(other, [1, at(-3), at(-3), 40])
    project.materialize(-1)
    project.delete(users, "true")
    project.materialize(0)
    key = redis_key(users, {"user_id": 1})
    row = {"event_timestamp": at(-3), "age": 40}
    assert project.online() == {key: serialized(other, row)} == project.expected(0)


def test_a_run_repeated_changes_nothing(project: OnlineProject, users: FeatureMart) -> None:
    project.sql.execute(ONE_ROW_PER_TIME)
    project.insert(users, _row(1, -3, 1), _row(2, -3, 2))
    project.materialize()
    before = project.online()
    again, full = project.materialize()[0], project.materialize(full=True)[0]
    assert (again.mode, again.written) == (INCREMENTAL, 0)
    assert (full.mode, full.written, full.removed) == (FULL, 2, 0)
    assert project.online() == before


def test_a_flushed_store_is_filled_again(project: OnlineProject, users: FeatureMart) -> None:
    project.insert(users, _row(1, -3, 1))
    project.materialize(-1)
    with project.redis() as client:
        client.flushall()
    assert project.materialize(0)[0].mode == FULL
    assert project.online() == project.expected(0)


def test_keys_that_redis_has_dropped_are_written_again(
    project: OnlineProject, users: FeatureMart
) -> None:
    project.sql.execute(ONE_ROW_PER_TIME)
    project.insert(users, _row(1, -3, 1), _row(2, -3, 2))
    project.materialize(-1)
    with project.redis() as client:
        client.delete(redis_key(users, {"user_id": 1}))
    report = project.materialize(0)[0]
    assert (report.mode, report.written) == (INCREMENTAL, 1)
    assert project.online() == project.expected(0)


def test_a_feature_that_dbt_has_no_more_is_removed(project: OnlineProject) -> None:
    old = project.mart("v", {"id": "int64"}, {"a": "int64", "b": "int64"})
    other = project.mart("w", {"id": "int64"}, {"b": "int64"})
    project.insert(old, [1, at(-3), at(-3), 10, 11], [2, at(-3), at(-3), 20, 21])
    project.insert(other, [1, at(-3), at(-3), 5])
    project.materialize(-1)
    materialize(project.settings, [old], feast_project="myshop", as_of=at(-1))
    mine = project.expected(-1)
    theirs = {key: values for key, values in project.online().items() if key not in mine}
    project.delete(old, "id = 2")
    columns = {name: column for name, column in old.columns.items() if name != "b"}
    project.marts[0] = dataclasses.replace(old, columns=columns)
    notes: list[str] = []
    materialize(project.settings, project.marts, as_of=NOW, note=notes.append)
    assert project.online() == project.expected() | theirs
    assert notes == ["v: removed the values of b, no longer in dbt"]


def test_full_removes_what_the_mart_never_had(project: OnlineProject, users: FeatureMart) -> None:
    project.insert(users, _row(1, -3, 1))
    stranger = {"event_timestamp": at(-9), "orders_7d": 1}
    with project.redis() as client:
        client.hset(redis_key(users, {"user_id": 9}), mapping=serialized(users, stranger))
        client.set("unrelated", "stays")
    assert project.materialize(full=True)[0].removed == 1
    with project.redis() as client:
        assert client.getdel("unrelated") == b"stays"
    assert project.online() == project.expected()


def test_a_newer_value_of_a_stranger_is_never_overwritten(
    project: OnlineProject, users: FeatureMart
) -> None:
    project.insert(users, _row(1, -3, 1), _row(2, -3, 2))
    newer = serialized(users, {"event_timestamp": at(-2), "orders_7d": 99})
    key = redis_key(users, {"user_id": 1})
    with project.redis() as client:
        client.hset(key, mapping=newer)
    for full in (False, True, False):
        report = project.materialize(full=full)[0]
        assert report.kept_newer == 1
        assert project.online()[key] == newer
    project.insert(users, _row(1, -1, 3))
    project.materialize()
    assert project.online() == project.expected()


def test_an_older_value_of_a_stranger_is_replaced(
    project: OnlineProject, users: FeatureMart
) -> None:
    project.insert(users, _row(1, -3, 1))
    for hours in (-3.0001, -24, -600_000):  # the last lies before 1970
        older = serialized(users, {"event_timestamp": at(hours), "orders_7d": 99})
        with project.redis() as client:
            client.hset(redis_key(users, {"user_id": 1}), mapping=older)
        project.materialize()
        assert project.online() == project.expected()


def test_an_earlier_instant_never_undoes_a_later_one(
    project: OnlineProject, users: FeatureMart
) -> None:
    project.insert(users, _row(1, -3, 1), _row(1, -3, 2, created=-1))
    project.materialize(0)
    report = project.materialize(-2, full=True)[0]
    assert (report.mode, report.as_of) == (SUPERSEDED, NOW)
    assert project.online() == project.expected(0)


@pytest.mark.parametrize(("ahead", "follows"), [(3600, True), (3600, False), (30, False)])
def test_a_clock_that_was_set_back_stops_no_view_until_its_former_time_comes(
    project: OnlineProject, ahead: int, follows: bool
) -> None:
    every = timedelta(days=1) if follows else None
    users = project.mart("v", {"id": "int64"}, {"x": "int64"}, compare_every=every)
    now = datetime.now(UTC)
    project.insert(users, [7, now - timedelta(hours=1), now - timedelta(hours=1), 1])
    then = materialize(project.settings, [users])[0].as_of + timedelta(seconds=ahead)
    ran_ahead(project, users, then)
    project.insert(users, [8, now, now, 2])
    report = materialize(project.settings, [users])[0]
    if ahead < 60:  # the next run finds it
        assert (report.mode, report.as_of) == (SUPERSEDED, then)
        return
    assert (report.mode, report.reason) == (FULL, "the warehouse's clock was set back")
    assert project.online() == project.expected(24 * 365 * 100)
    assert materialize(project.settings, [users])[0].mode == INCREMENTAL


def ran_ahead(project: OnlineProject, mart: FeatureMart, then: datetime) -> None:
    """Change the store to what a run of a time to come leaves, with a value of just before."""
    stored = serialized(mart, {"event_timestamp": then - timedelta(seconds=1), "x": 3})
    with project.redis() as client:
        key = "runner:materialize:shop:v"
        watermark = json.loads(client.hget(key, "watermark") or "")
        client.hset(key, "watermark", json.dumps(watermark | {"as_of": then.isoformat()}))
        client.hset(redis_key(mart, {"id": 7}), mapping=stored)  # type: ignore[arg-type]


def test_a_rebuilt_table_is_written_in_full(project: OnlineProject, users: FeatureMart) -> None:
    project.insert(users, _row(1, -3, 1))
    project.materialize(-1)
    project.sql.execute("create table feature_mart.again as table feature_mart.user_activity")
    project.sql.execute("update feature_mart.again set orders_7d = 5")
    project.sql.execute("drop table feature_mart.user_activity")
    project.sql.execute("alter table feature_mart.again rename to user_activity")
    assert project.materialize(0)[0].mode == FULL
    assert project.online() == project.expected(0)


def test_a_new_feature_is_written_for_every_entity(
    project: OnlineProject, users: FeatureMart
) -> None:
    project.insert(users, _row(1, -3, 1))
    project.materialize(-1)
    project.sql.execute("alter table feature_mart.user_activity add column device text default 'a'")
    columns = {**users.columns, "device": MartColumn("device", "string", "")}
    project.marts[0] = dataclasses.replace(users, columns=columns)
    assert project.materialize(0)[0].mode == FULL
    assert project.online() == project.expected(0)


def test_a_view_in_postgresql_is_written_in_full_each_time(
    project: OnlineProject, users: FeatureMart
) -> None:
    project.insert(users, _row(1, -3, 1))
    project.sql.execute("create view feature_mart.v as table feature_mart.user_activity")
    project.marts[0] = dataclasses.replace(users, name="v", alias="v")
    project.materialize(-1)
    assert project.materialize(0)[0].mode == FULL
    assert project.online() == project.expected(0)


def test_ties_go_to_the_greatest_values_in_declared_order(project: OnlineProject) -> None:
    mart = project.mart("v", {"id": "int64"}, {"a": "int64", "b": "string"})
    for index, (a, b) in enumerate([(1, "z"), (2, "a"), (2, "Z"), (2, None), (None, "zz")]):
        project.insert(mart, [1, at(-1), at(-1), a, b])
        project.materialize(index / 1000, full=True)
    row = {"event_timestamp": at(-1), "a": 2, "b": "a"}
    assert project.online() == {redis_key(mart, {"id": 1}): serialized(mart, row)}
    assert project.online() == project.expected()


@pytest.mark.parametrize("history", [1, 10])
@pytest.mark.parametrize("unique", [True, False])
def test_long_and_short_histories_with_and_without_ties_are_read_alike(
    project: OnlineProject, history: int, unique: bool
) -> None:
    mart = project.mart("v", {"a": "int64", "b": "string"}, {"n": "int64"}, index=not unique)
    if unique:
        project.sql.execute("create unique index on feature_mart.v (b, a, event_timestamp)")
    rows = [[u, f"b{u % 3}", at(-h - 1), at(-h), u * h] for u in range(300) for h in range(history)]
    project.insert(mart, *rows)
    project.sql.execute("analyze feature_mart.v")
    project.materialize()
    assert project.online() == project.expected()
    assert len(project.online()) == 300


def test_a_ttl_of_millennia_is_no_limit(project: OnlineProject) -> None:
    mart = project.mart("v", {"a": "int64"}, {"n": "int64"}, ttl=timedelta(days=999_999))
    project.insert(mart, [1, at(-1), at(-1), 1])
    assert project.materialize()[0].entities == 1


def test_ctrl_c_ends_a_long_query_at_once(project: OnlineProject, users: FeatureMart) -> None:
    main = threading.main_thread().ident
    assert main is not None
    interrupt = threading.Timer(0.5, signal.pthread_kill, [main, signal.SIGINT])
    with open_postgres_mart(project.settings.postgres, users) as snapshot:
        slow = prefetched(snapshot.batches("select pg_sleep(300)::text as slept"), snapshot.cancel)
        interrupt.start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            list(slow)
        assert time.monotonic() - started < 30


def test_a_mart_that_is_not_online_is_left_out(project: OnlineProject, users: FeatureMart) -> None:
    project.insert(users, _row(1, -3, 1))
    project.marts[0] = dataclasses.replace(users, online=False)
    assert project.materialize() == []
    assert project.online() == {}


def test_an_empty_mart_empties_its_view(project: OnlineProject, users: FeatureMart) -> None:
    project.materialize(-2)
    assert project.online() == {}
    project.insert(users, _row(1, -3, 1))
    project.materialize(-1)
    project.delete(users, "true")
    assert project.materialize(0)[0].removed == 1
    assert project.online() == {}


def test_a_view_without_entities_has_one_row(project: OnlineProject) -> None:
    mart = project.mart("totals", {}, {"orders": "int64"})
    project.insert(mart, [at(-2), at(-2), 7], [at(-1), at(-1), 8])
    project.materialize(-0.5)
    assert project.online() == project.expected()
    assert len(project.online()) == 1
    project.delete(mart, "true")
    assert project.materialize(0)[0].removed == 1
    assert project.online() == {}


def test_keys_and_the_watermark_live_as_long_as_the_configuration_says(
    project: OnlineProject, users: FeatureMart
) -> None:
    project.insert(users, _row(1, -3, 1), _row(2, -3, 1))
    project.materialize(-1)
    key = redis_key(users, {"user_id": 1})
    with project.redis() as client:
        client.expire(key, 5)
        project.materialize(0)  # nothing to write, but the key is confirmed
        remaining = [client.ttl(key) for key in client.scan_iter()]
    assert len(remaining) == 3
    assert all(86_390 < seconds <= 86_400 for seconds in remaining)


def test_without_a_configured_time_to_live_keys_stay(
    tmp_path: Path, database: PostgresAddress, redis_url: str
) -> None:
    project = OnlineProject(tmp_path, database, redis_url, yaml="project: shop\n")
    mart = project.mart("v", {"id": "int64"}, {"a": "int64"})
    project.insert(mart, [1, at(-1), at(-1), 1])
    project.materialize(-0.5)
    project.materialize()
    with project.redis() as client:
        assert [client.ttl(key) for key in client.scan_iter()] == [-1, -1]
    assert project.online() == project.expected()


def test_the_instant_defaults_to_now_by_the_warehouse(
    project: OnlineProject, users: FeatureMart
) -> None:
    project.insert(users, _row(1, -3, 1))
    before = datetime.now(UTC)
    report = materialize(project.settings, project.marts)[0]
    assert timedelta(0) <= report.as_of - before < timedelta(minutes=1)
    assert report.rows_per_second > 0


@pytest.mark.parametrize(
    ("as_of", "message"),
    [
        (datetime(2999, 1, 1, tzinfo=UTC), "in the future"),
        (datetime(2026, 1, 1), "no time zone"),  # noqa: DTZ001
    ],
)
def test_an_impossible_instant_is_refused(
    project: OnlineProject, users: FeatureMart, as_of: datetime, message: str
) -> None:
    with pytest.raises(RunnerError, match=message):
        materialize(project.settings, [users], as_of=as_of)
    assert project.online() == {}


def test_a_mart_without_a_table_is_named(project: OnlineProject, users: FeatureMart) -> None:
    missing = dataclasses.replace(users, alias="nothing")
    with pytest.raises(RunnerError, match=r"user_activity.*feature_mart\.nothing") as caught:
        materialize(project.settings, [missing])
    assert "dbt build" in caught.value.hint
    with project.redis() as client:
        assert not client.keys("runner:*lease*")


def test_a_missing_feature_store_yaml_is_named(project: OnlineProject) -> None:
    project.settings.feature_store_yaml.unlink()
    with pytest.raises(RunnerError, match=r"feature_store\.local\.yaml: no such file"):
        project.materialize()


def test_another_project_in_the_same_redis_is_left_alone(
    project: OnlineProject, users: FeatureMart
) -> None:
    project.insert(users, _row(1, -3, 1))
    project.materialize()
    mine = project.online()
    project.insert(users, _row(2, -3, 1))
    project.delete(users, "user_id = 1")
    materialize(project.settings, [users], feast_project="myshop", as_of=NOW, full=True)
    assert mine.items() <= project.online().items()
    assert len(project.online()) == 2


def test_progress_counts_every_entity(project: OnlineProject, users: FeatureMart) -> None:
    project.insert(users, *[_row(user, -3, 1) for user in range(5_000)])
    seen: list[tuple[str, int]] = []
    materialize(
        project.settings,
        [users],
        as_of=NOW,
        progress=lambda view, rows: seen.append((view, rows)),
    )
    assert {view for view, _ in seen} == {"user_activity"}
    assert sum(rows for _, rows in seen) == 5_000
    assert project.online() == project.expected()


_counter = iter(range(10_000))
EXAMPLES = int(os.environ.get("RUNNER_EXAMPLES", "15"))


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=set(Phase) - {Phase.shrink},  # minutes per failure, with real servers
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_history_of_changes_ends_in_the_oracles_store(
    project: OnlineProject, data: st.DataObject
) -> None:
    """Random marts, rows, corrections, deletions, changes of the table, and instants.

    After each run all bytes agree. Where an index says so, a mart has one row per entity and time.
    """
    with project.redis() as client:
        client.flushall()
    project.marts.clear()
    kinds = data.draw(st.lists(st.sampled_from(sorted(KEYS)), max_size=2))
    mart = project.mart(
        f"v{next(_counter)}",
        {f"key_{n}": kind for n, kind in enumerate(kinds)},
        {f"f_{dtype}": dtype for dtype in VALUES} | {"g_int64": "int64"},
        ttl=data.draw(st.sampled_from([None, timedelta(hours=2)])),
        created=data.draw(st.booleans()),
        index=data.draw(st.booleans()),
    )
    # Most are in the past of every run, so that most rows count.
    times = st.sampled_from([-4, -3.75, -3, -2.75, -2.5, -2.25, -2, -1.5, -0.25, 1]).map(at)
    row_of = st.tuples(
        *[KEYS[kind] if n else st.none() | KEYS[kind] for n, kind in enumerate(kinds)],
        times,
        *([times | times | times | st.none()] if mart.created_timestamp_column else []),
        *[st.none() | VALUES[column.dtype] for column in mart.features],
    )
    width = len(kinds) + 1
    table = ChangingTable(project, mart, data.draw(st.sampled_from(SHAPES)))
    if data.draw(st.integers(0, 2)):  # mostly: without the index every row is written each time
        table.turn_unique()
    for run in range(3):
        changes = [table.change(data.draw) for _ in range(data.draw(st.integers(0, 2)))]
        table.delete(data.draw)
        rows = data.draw(st.lists(row_of, max_size=6))
        if not table.is_unique:  # and a second version of each: same entity, same time
            rows += [(*row[:width], *data.draw(row_of)[width:]) for row in rows]
        table.insert(rows, to_child=data.draw(st.booleans()))
        project.materialize(run - 2, full=data.draw(st.integers(0, 4)) == 4)
        assert project.online() == project.expected(run - 2), changes


def test_the_database_connection_is_read_only(project: OnlineProject, users: FeatureMart) -> None:
    project.sql.execute(
        "create function feature_mart.spy() returns bigint language plpgsql as $$"
        "begin insert into feature_mart.user_activity values (1); return 1; end $$"
    )
    project.sql.execute(
        "create view feature_mart.v as select user_id, event_timestamp, created_at,"
        " feature_mart.spy() as orders_7d from feature_mart.user_activity"
    )
    project.insert(users, _row(1, -3, 1))
    with pytest.raises(Exception, match="read-only"):
        materialize(project.settings, [dataclasses.replace(users, alias="v")], as_of=NOW)
    assert isinstance(project.sql, psycopg.Connection)

"""A mart with `compare_every`: between two comparisons a run looks at new rows alone.

What it cannot see, deletions above all, the next comparison finds. Set RUNNER_EXAMPLES for a longer
run of the random histories (default 15).
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from runner.online import writer
from runner.online.guards import ScriptGuard, TransactionGuard, WriteGuard
from runner.online.materialize import materialize
from runner.online.view_report import FULL, INCREMENTAL, ViewReport
from runner.project.manifest import FeatureMart
from runner.settings import PostgresAddress
from runner.warehouse.mart_snapshot import LATE
from tests.changing_table import KEYS, PARTITIONED, PLAIN, VALUES, ChangingTable
from tests.instants import NOW, at
from tests.online_project import Hashes, OnlineProject, redis_key, serialized

_USERS = 300


@pytest.fixture
def project(tmp_path: Path, database: PostgresAddress, redis_url: str) -> Iterator[OnlineProject]:
    made = OnlineProject(tmp_path, database, redis_url)
    yield made
    made.sql.close()


def _filled(project: OnlineProject, *, created: bool = True) -> FeatureMart:
    """Return a mart of 300 users that was copied two hours ago."""
    mart = project.mart(
        "v", {"id": "int64"}, {"x": "int64"}, created=created, compare_every=timedelta(hours=3)
    )
    for user in range(_USERS):
        _add(project, mart, user, -9, user)
    project.materialize(-2)
    return mart


def _add(
    project: OnlineProject,
    mart: FeatureMart,
    user: int,
    hours: float,
    x: int,
    *,
    created: float | None = None,
) -> None:
    known = [at(hours if created is None else created)] if mart.created_timestamp_column else []
    project.insert(mart, [user, at(hours), *known, x])


def _follow(project: OnlineProject, hours: float) -> ViewReport:
    [report] = project.materialize(hours)
    assert (report.mode, report.compared) == (INCREMENTAL, at(-2))
    return report


@pytest.mark.parametrize("created", [True, False])
def test_a_run_looks_at_new_rows_alone(project: OnlineProject, created: bool) -> None:
    mart = _filled(project, created=created)
    _add(project, mart, 7, -1.5, 70)
    _add(project, mart, _USERS, -1.4, 1)
    with project.redis() as client:
        before = client.info("stats")["total_commands_processed"]
        report = _follow(project, -1)
        assert client.info("stats")["total_commands_processed"] - before < _USERS / 4
    assert (report.entities, report.written, report.newest) == (_USERS + 1, 2, at(-1.4))
    assert project.online() == project.expected(-1)
    again = _follow(project, -0.5)
    assert (again.written, again.newest) == (0, at(-1.4))


@pytest.mark.parametrize(
    ("hours", "created"),
    [(-400, -1.5), (-9, -1.5), (-1.5, -2.5), (-8, -0.9)],
    ids=["late", "a correction", "known before the last run", "known later"],
)
def test_new_rows_are_found_whatever_their_event_time(
    project: OnlineProject, hours: float, created: float
) -> None:
    mart = _filled(project)
    _add(project, mart, 7, hours, 70, created=created)
    _add(project, mart, _USERS, hours, 70, created=created)
    for instant in (-1, -0.5):
        _follow(project, instant)
        assert project.online() == project.expected(instant)


def test_the_newest_row_of_each_new_entity_wins(project: OnlineProject) -> None:
    mart = _filled(project)
    for hours, x in ((-1.3, 1), (-1.1, 2), (-1.2, 3)):
        _add(project, mart, 7, hours, x)
    _add(project, mart, 8, -500, 4, created=-1.2)
    _follow(project, -1)
    assert project.online() == project.expected(-1)


def test_what_was_deleted_is_found_by_the_next_comparison(project: OnlineProject) -> None:
    mart = _filled(project)
    before = project.online()
    project.delete(mart, "id = 7")
    assert _follow(project, -1).removed == 0
    assert project.online() == before
    [report] = project.materialize(1)
    assert (report.mode, report.compared, report.removed) == (INCREMENTAL, at(1), 1)
    assert project.online() == project.expected(1)


def test_a_change_that_no_new_row_shows_is_found_by_the_next_comparison(
    project: OnlineProject,
) -> None:
    mart = _filled(project)
    project.sql.execute("create unique index on feature_mart.v (id, event_timestamp)")
    project.materialize(-1.9)
    project.sql.execute("update feature_mart.v set x = 5 where id = 7")
    _add(project, mart, 8, -1.8, 80)
    assert project.materialize(-1)[0].compared == at(-1.9)
    assert project.materialize(-0.9)[0].compared == at(-1.9)
    assert project.online() != project.expected(-0.9)
    assert project.materialize(1.2)[0].compared == at(1.2)
    assert project.online() == project.expected(1.2)


def test_rows_dated_ahead_are_found_when_their_time_comes(project: OnlineProject) -> None:
    mart = _filled(project)
    _add(project, mart, 7, -0.7, 70, created=-1.9)
    _add(project, mart, 8, -0.2, 80, created=-1.9)
    _follow(project, -1)
    for instant in (-0.6, 0):
        [report] = project.materialize(instant)
        assert report.compared == at(instant)
        assert project.online() == project.expected(instant)


@pytest.mark.parametrize("full", [True, False])
def test_a_row_that_was_written_and_deleted_gives_way_and_a_strangers_value_does_not(
    project: OnlineProject, full: bool
) -> None:
    mart = _filled(project)
    _add(project, mart, 7, -1.5, 70)
    _add(project, mart, 9, -1.5, 90)
    _follow(project, -1)
    pushed = serialized(mart, {"event_timestamp": at(-1.2), "x": 80})
    with project.redis() as client:
        for user in (8, 9):
            client.hset(redis_key(mart, {"id": user}), mapping=pushed)  # type: ignore[arg-type]
    project.delete(mart, "id in (7, 9) and x > 9")
    [report] = project.materialize(1, full=full)
    assert (report.compared, report.kept_newer) == (at(1), 2)
    theirs = {redis_key(mart, {"id": user}): pushed for user in (8, 9)}
    assert project.online() == project.expected(1) | theirs


@pytest.mark.parametrize("guard", [TransactionGuard, ScriptGuard])
def test_a_row_that_was_written_and_moved_back_in_time_gives_way(
    project: OnlineProject, guard: type[WriteGuard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "TransactionGuard", guard)
    mart = _filled(project)
    _add(project, mart, 7, -1.2, 700)
    _follow(project, -1)
    project.delete(mart, "x = 700")
    _add(project, mart, 7, -1.5, 71, created=-0.9)
    assert _follow(project, -0.8).kept_newer == 0
    assert project.online() == project.expected(-0.8)


def test_keys_are_confirmed_before_half_of_their_life_is_gone(project: OnlineProject) -> None:
    mart = _filled(project)
    with project.redis() as client:
        client.expire("runner:materialize:shop:v", 43_000)
        client.expire(redis_key(mart, {"id": 7}), 43_000)
        assert project.materialize(-1)[0].compared == at(-1)
        assert client.ttl(redis_key(mart, {"id": 7})) > 86_390
        assert client.ttl("runner:materialize:shop:v") > 86_300
        _add(project, mart, 8, -0.9, 1)
        assert project.materialize(-0.5)[0].compared == at(-1)


def test_a_run_after_one_that_was_stopped_compares(project: OnlineProject) -> None:
    mart = _filled(project)

    def stop(_view: str, _rows: int) -> None:
        raise KeyboardInterrupt

    _add(project, mart, 7, -1.5, 70)
    with pytest.raises(KeyboardInterrupt):
        materialize(project.settings, [mart], as_of=at(-1), progress=stop)
    project.delete(mart, "x = 70")
    assert project.materialize(-0.5)[0].compared == at(-0.5)
    assert project.online() == project.expected(-0.5)


@pytest.mark.parametrize(
    "change",
    [
        "alter table feature_mart.v rename x to y; alter table feature_mart.v add x bigint",
        "truncate feature_mart.v",
    ],
)
def test_a_table_that_changed_is_copied_in_full(project: OnlineProject, change: str) -> None:
    _filled(project)
    project.sql.execute(change.encode())
    assert project.materialize(-1)[0].mode == FULL
    assert project.online() == project.expected(-1)


def test_an_index_that_is_missing_is_named_and_each_run_compares(project: OnlineProject) -> None:
    mart = _filled(project)
    project.sql.execute("drop index feature_mart.v_created_at_idx")
    project.delete(mart, "id = 7")
    [report] = project.materialize(-1)
    assert report.compared == at(-1)
    assert report.advice == (
        '"feature_mart"."v" has no index on (created_at), so each run compares every entity; add '
        "to the config of its dbt model: indexes: [{columns: [created_at]}]"
    )
    assert project.online() == project.expected(-1)


@pytest.mark.parametrize("created", [True, False])
def test_a_unique_index_that_is_missing_is_named_where_every_entity_is_written(
    project: OnlineProject, created: bool
) -> None:
    project.marts[0] = mart = dataclasses.replace(
        _filled(project, created=created), compare_every=None
    )
    project.materialize(-2, full=True)
    [report] = project.materialize(-1)
    assert (report.mode, report.written) == (INCREMENTAL, _USERS)
    assert report.advice == (
        '"feature_mart"."v" has no unique index on (id, event_timestamp), so each incremental run '
        f"writes every entity; {'if no two rows share these, ' if created else ''}add to the "
        "config of its dbt model: indexes: [{columns: [id, event_timestamp], unique: true}]"
    )
    own = f"event_timestamp, {mart.known_at}" if created else "event_timestamp"
    project.sql.execute(f"create unique index on feature_mart.v (id, {own})".encode())
    for instant in (-0.5, -0.4):
        [report] = project.materialize(instant)
        assert report.advice == ""
    assert report.written == (_USERS if created else 0)


@pytest.mark.parametrize("before", ["compare_every was declared", "this version"])
def test_a_watermark_of_before_is_compared_first(project: OnlineProject, before: str) -> None:
    mart = _filled(project)
    if before == "this version":
        with project.redis() as client:
            watermark = json.loads(client.hget("runner:materialize:shop:v", "watermark") or "")
            del watermark["next_visible"], watermark["compared"]
            client.hset("runner:materialize:shop:v", "watermark", json.dumps(watermark))
    else:
        project.marts[0] = dataclasses.replace(mart, compare_every=None)
        project.materialize(-1.5)
        project.marts[0] = mart
    for instant in (-1, -0.5):
        [report] = project.materialize(instant)
        assert (report.mode, report.compared) == (INCREMENTAL, at(-1))


_counter = iter(range(10_000))


@settings(
    max_examples=int(os.environ.get("RUNNER_EXAMPLES", "15")),
    deadline=None,
    phases=set(Phase) - {Phase.shrink},  # minutes per failure, with real servers
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_in_any_history_of_changes_only_what_no_new_row_shows_waits(
    project: OnlineProject, data: st.DataObject
) -> None:
    """After each run every entity that new rows fully describe is right; at the end all are."""
    with project.redis() as client:
        client.flushall()
    project.marts.clear()
    kinds = data.draw(st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=2))
    mart = project.mart(
        f"w{next(_counter)}",
        {f"key_{n}": kind for n, kind in enumerate(kinds)},
        {f"f_{dtype}": dtype for dtype in VALUES} | {"g_int64": "int64"},
        ttl=data.draw(st.sampled_from([None, timedelta(hours=2)])),
        created=data.draw(st.booleans()),
        compare_every=data.draw(st.sampled_from([timedelta(hours=h) for h in (0.5, 1, 4)])),
    )
    times = st.sampled_from([-4, -3, -2.5, -2, -1.9, -1.7, -1.6, -1.4, -1.3, -1.1, -0.9, 1]).map(at)
    row_of = st.tuples(
        *[KEYS[kind] for kind in kinds],
        times,
        *([times | times | times | st.none()] if mart.created_timestamp_column else []),
        *[st.none() | VALUES[column.dtype] for column in mart.features],
    )
    table = ChangingTable(project, mart, data.draw(st.sampled_from([PLAIN, PARTITIONED])))
    if data.draw(st.booleans()):
        table.turn_unique()
    waiting = Waiting(project, table)
    for instant in (-2, -1.75, -1.5, -1.25, -1):
        if data.draw(st.integers(0, 3)) == 3:
            table.change(data.draw)
        if data.draw(st.booleans()):
            table.delete(data.draw)
        table.insert(data.draw(st.lists(row_of, max_size=6)), to_child=data.draw(st.booleans()))
        table.index()
        [report] = project.materialize(instant)
        waits = waiting.after(report)
        online, expected = project.online(), project.expected(instant)
        assert _without(online, waits) == _without(expected, waits), report
    project.materialize(5)
    assert project.online() == project.expected(5)


class Waiting:
    """The keys whose changes the last run could not see, by the contents of the table."""

    def __init__(self, project: OnlineProject, table: ChangingTable) -> None:
        self._project = project
        self._table = table
        self._content: list[dict[str, Any]] = []
        self._as_of = at(-1_000)
        self._keys: set[bytes] = set()

    def after(self, report: ViewReport) -> set[bytes]:
        """Return the keys of these entities."""
        [mart] = self._project.marts
        now, before = self._table.content(), self._content
        last, as_of = self._as_of, report.as_of
        self._content, self._as_of = now, as_of
        if report.compared == as_of:
            self._keys = set()
            return self._keys
        arrived = {
            redis_key(mart, row)
            for row in now
            if (known := row[mart.known_at]) is not None
            and last - LATE * (row not in before) < known <= as_of
        }
        changed = [row for row in before if row not in now] + [r for r in now if r not in before]
        expired = [row for row in now if mart.ttl and row["event_timestamp"] < as_of - mart.ttl]
        self._keys |= {redis_key(mart, row) for row in (*changed, *expired)}
        self._keys -= arrived & self._project.expected((as_of - NOW) / timedelta(hours=1)).keys()
        return self._keys


def _without(hashes: Hashes, keys: set[bytes]) -> Hashes:
    return {key: row for key, row in hashes.items() if key not in keys}

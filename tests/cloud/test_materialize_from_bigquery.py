"""From BigQuery to Redis: after every run the whole store equals the oracle's, byte for byte."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from feast.repo_config import load_repo_config
from google.cloud import bigquery, bigquery_storage

from runner.errors import RunnerError
from runner.online.materialize import materialize
from runner.online.view_report import FULL, INCREMENTAL, SUPERSEDED
from runner.project.manifest import FeatureMart
from runner.warehouse.bigquery.estimates import BigQueryEstimates
from runner.warehouse.bigquery.mart import _is_partitioned_by_day, planned_look_up
from runner.warehouse.mart_snapshot import PushesSeen
from runner.warehouse.open_mart import find_duplicates, open_mart
from tests.cloud.bigquery_project import BigQueryProject
from tests.instants import NOW, at
from tests.online_project import redis_key

pytestmark = [pytest.mark.cloud, pytest.mark.servers, pytest.mark.timeout(900)]

DAY = 24


@pytest.fixture
def project(
    tmp_path: Path, client: bigquery.Client, dataset: str, redis_url: str
) -> Iterator[BigQueryProject]:
    made = BigQueryProject(tmp_path, client, dataset, redis_url)
    yield made
    tables = {table.table_id for table in client.list_tables(dataset)}
    assert tables <= {mart.alias for mart in made.marts}, "something was left behind"
    for table in tables:
        client.delete_table(f"{dataset}.{table}")


@pytest.fixture
def users(project: BigQueryProject) -> FeatureMart:
    return project.mart("user_activity", {"user_id": "int64"}, {"orders_7d": "int64"})


def _row(user: int, hours: float, orders: int | None, *, created: float | None = None) -> list[Any]:
    return [user, at(hours), at(hours if created is None else created), orders]


def test_the_newest_known_row_of_every_entity_is_stored(
    project: BigQueryProject, users: FeatureMart
) -> None:
    rows = [_row(1, -3, 10), _row(1, -2, 20), _row(2, -5, None), _row(-3, -1, 5)]
    unknown = [_row(1, 1, 2), _row(1, -1, 3, created=1), _row(4, 1, 1)]
    project.insert(users, *rows, *unknown)
    report = project.materialize()[0]
    assert project.online() == project.expected()
    assert (report.mode, report.entities, report.written, report.removed) == (FULL, 3, 3, 0)


def test_every_type_of_key_and_value_has_the_bytes_that_feast_reads(
    project: BigQueryProject,
) -> None:
    keys = {"b": "string", "a": "int64", "c": "timestamp", "d": "int32"}
    dtypes = ["int64", "int32", "float64", "float32", "string", "bool", "timestamp"]
    mart = project.mart("v", keys, {f"f_{dtype}": dtype for dtype in dtypes})
    filled = [2**53 + 1, -5, 0.1, 0.5, "ä€😀'\"\\", True, datetime(1912, 6, 23, tzinfo=UTC)]
    for number, text in enumerate(["", "b c", "'", '"', "\\", "NULL", "ä€😀"]):
        values = filled if number % 2 else [None] * len(filled)
        key = [text, -(2**63) + number, at(number), 2**31 - 1 - number]
        project.insert(mart, [*key, at(-1), at(-1), *values])
    project.materialize()
    assert project.online() == project.expected()
    project.delete(mart, "a > -9223372036854775807")
    assert project.materialize(full=True)[0].removed == 5
    assert project.online() == project.expected()


def test_equally_new_rows_are_told_apart_by_their_values(project: BigQueryProject) -> None:
    mart = project.mart("v", {"k": "int64"}, {"r": "float64", "t": "string"}, created=False)
    for key, values in enumerate([[0.5, None], [None, 0.5]]):
        project.insert(mart, *[[key, at(-1), value, "x"] for value in values])
    project.insert(mart, *[[9, at(-1), 0.5, text] for text in ("a", "B", "ä", "b")])
    project.materialize()
    assert project.online() == project.expected()


def test_an_incremental_run_writes_only_what_changed(
    project: BigQueryProject, users: FeatureMart
) -> None:
    project.insert(users, *[_row(user, -5 * DAY, user) for user in range(100)])
    project.materialize(-1)
    project.insert(users, _row(7, -0.5, 70), _row(200, -0.5, 1), _row(8, 0.5, 1))
    report = project.materialize(0)[0]
    assert (report.mode, report.entities, report.written) == (INCREMENTAL, 101, 2)
    assert project.online() == project.expected(0)
    report = project.materialize(1)[0]
    assert (report.mode, report.entities, report.written) == (INCREMENTAL, 101, 1)
    assert project.online() == project.expected(1)
    report = project.materialize(1)[0]
    assert (report.mode, report.entities, report.written) == (INCREMENTAL, 101, 0)


def test_a_late_row_is_found_however_old_its_timestamps_are(
    project: BigQueryProject, users: FeatureMart
) -> None:
    project.insert(users, _row(1, -500, 1))
    project.materialize(-1)
    project.insert(users, _row(2, -400, 2), _row(1, -300, 3))
    report = project.materialize(0)[0]
    assert (report.mode, report.written) == (INCREMENTAL, 2)
    assert project.online() == project.expected(0)


@pytest.mark.parametrize("layout", ["partition by timestamp_trunc(event_timestamp, day)", ""])
@pytest.mark.parametrize("created", [True, False])
def test_a_correction_at_an_equal_event_time_replaces_the_value(
    project: BigQueryProject, created: bool, layout: str
) -> None:
    mart = project.mart("v", {"k": "int64"}, {"n": "int64"}, created=created, layout=layout)
    times = [at(-300), at(-300)] if created else [at(-300)]
    other = [at(-900), at(-900)] if created else [at(-900)]
    project.insert(mart, [1, *times, 5], [2, *other, 5])
    project.materialize(-1)
    project.run(f"update {project.dataset}.v set n = 4 where k = 1")
    report = project.materialize(0)[0]
    # Without partitions any row may have changed.
    assert (report.mode, report.written) == (INCREMENTAL, 1 if layout else 2)
    assert project.online() == project.expected(0)


@pytest.mark.parametrize("created", [True, False])
def test_between_two_comparisons_a_run_follows_the_partitions_that_were_written(
    project: BigQueryProject, created: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = timedelta(hours=3)
    mart = project.mart("v", {"k": "int64"}, {"n": "int64"}, created=created, compare_every=every)

    def insert(*rows: tuple[int, float, int]) -> None:
        times = [[at(hours)] * (2 if created else 1) for _, hours, _ in rows]
        project.insert(mart, *[[k, *t, n] for (k, _, n), t in zip(rows, times, strict=True)])

    insert(*((k, -9 * DAY, k) for k in range(50)))
    project.materialize(-2)
    insert((7, -400, 1), (8, -1.5, 80), (50, -300, 1))
    report = project.materialize(-1)[0]
    assert (report.compared, report.entities, report.written) == (at(-2), 51, 3)
    assert project.online() == project.expected(-1)
    queries: list[str] = []
    original = bigquery.Client.query

    def query(self: Any, sql: str, *args: Any, **options: Any) -> Any:
        queries.append(sql)
        return original(self, sql, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(bigquery.Client, "query", query)
        assert project.materialize(-0.5)[0].compared == at(-2)
    assert queries == ["select current_timestamp() as now"]
    project.delete(mart, "k = 3")
    insert((9, 0.5, 90))
    assert project.materialize(0)[0].removed == 0
    report = project.materialize(0.5)[0]  # the row that was dated ahead
    assert (report.compared, report.removed) == (at(0.5), 1)
    assert project.online() == project.expected(0.5)


def test_a_mart_without_days_compares_each_time_and_says_why(project: BigQueryProject) -> None:
    every = timedelta(hours=3)
    mart = project.mart("v", {"k": "int64"}, {"n": "int64"}, layout="", compare_every=every)
    project.insert(mart, [1, at(-3), at(-3), 1])
    project.materialize(-2)
    report = project.materialize(-1)[0]
    assert report.compared == at(-1)
    assert "is not partitioned by the day of event_timestamp, so each run compares" in report.advice


def test_a_table_that_dbt_builds_anew_is_written_anew(
    project: BigQueryProject, users: FeatureMart
) -> None:
    project.insert(users, _row(1, -3, 1), _row(2, -3, 2))
    project.materialize(-1)
    table = f"{project.dataset}.user_activity"
    project.run(f"create or replace table {table} as select * from {table} where user_id = 1")
    report = project.materialize(0)[0]
    assert (report.mode, report.written, report.removed) == (FULL, 1, 1)
    assert project.online() == project.expected(0)


def test_deleted_and_expired_entities_are_removed(project: BigQueryProject) -> None:
    mart = project.mart(
        "v", {"user": "int64", "shop": "string"}, {"n": "int64"}, ttl=timedelta(hours=2)
    )
    for n in range(3):
        project.insert(mart, [n, "a'b", at(-1.5 + n), at(-1.5 + n), n])
    project.materialize(1)
    assert len(project.online()) == 2  # the first has expired, the third is not there yet
    project.delete(mart, "user = 1")
    report = project.materialize(1)[0]
    assert (report.mode, report.removed) == (INCREMENTAL, 1)
    assert project.online() == project.expected(1)


def test_a_view_without_entities_has_one_row(project: BigQueryProject) -> None:
    mart = project.mart("v", {}, {"n": "int64"})
    project.insert(mart, [at(-2), at(-2), 1], [at(-1), at(-1), 2])
    assert project.materialize(-0.5)[0].entities == 1
    assert project.online() == project.expected(-0.5)
    assert list(project.online()) == [redis_key(mart, {})]
    project.delete(mart, "true")
    assert project.materialize(0)[0].removed == 1
    assert project.online() == {}


def test_a_view_of_the_warehouse_is_copied_in_full_each_time(
    project: BigQueryProject, users: FeatureMart
) -> None:
    project.insert(users, _row(1, -3, 1))
    project.run(
        f"create or replace view {project.dataset}.looked as "
        f"select * from {project.dataset}.user_activity"
    )
    project.marts[0] = dataclasses.replace(users, alias="looked")
    try:
        for _ in range(2):
            assert project.materialize()[0].mode == FULL
            assert project.online() == project.expected()
    finally:
        project.run(f"drop view {project.dataset}.looked")
        project.marts[0] = users


def test_an_earlier_instant_does_not_overwrite_a_later_one(
    project: BigQueryProject, users: FeatureMart
) -> None:
    project.insert(users, _row(1, -3, 1), _row(1, -1, 2))
    project.materialize(0)
    assert project.materialize(-2)[0].mode == SUPERSEDED
    assert project.online() == project.expected(0)


def test_a_run_sees_one_instant_whatever_is_written_meanwhile(
    project: BigQueryProject, users: FeatureMart
) -> None:
    project.insert(users, _row(1, -3, 1))
    with open_mart(project.settings, users) as snapshot:
        project.insert(users, _row(1, -2, 2), _row(2, -2, 2))
        rows = pa.Table.from_batches(snapshot.newest_rows(NOW, None))
        assert rows["orders_7d"].to_pylist() == [1]
        assert snapshot.existing(NOW, [(1,), (2,)]) == {1}
        assert snapshot.sample(5) == [{"user_id": 1}]


def test_rows_come_in_batches_from_the_storage_read_api_in_one_stream(
    project: BigQueryProject, users: FeatureMart, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = []
    original = bigquery_storage.BigQueryReadClient.create_read_session

    def create(self: Any, *args: Any, **options: Any) -> Any:
        sessions.append(options["max_stream_count"])
        return original(self, *args, **options)

    monkeypatch.setattr(bigquery_storage.BigQueryReadClient, "create_read_session", create)
    table = f"{project.dataset}.user_activity"
    project.run(
        f"insert into {table} select n, timestamp '{at(-1).isoformat()}', "
        f"timestamp '{at(-1).isoformat()}', n from unnest(generate_array(1, 150000)) as n"
    )
    with open_mart(project.settings, users) as snapshot:
        batches = list(snapshot.newest_rows(NOW, None))
    assert sessions[-1] == 1
    assert len(batches) > 1
    assert sum(batch.num_rows for batch in batches) == 150_000


def test_a_query_that_is_left_early_is_cancelled(
    project: BigQueryProject, users: FeatureMart, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.insert(users, _row(1, -3, 1))
    cancelled: list[Any] = []
    monkeypatch.setattr(bigquery.QueryJob, "cancel", lambda job: cancelled.append(job.job_id))
    with open_mart(project.settings, users) as snapshot:
        snapshot.cancel()
        assert cancelled == []  # nothing runs yet
        rows = snapshot.newest_rows(NOW, None)
        next(rows)
        snapshot.cancel()  # as another thread does on Ctrl-C
        rows.close()
    assert len(cancelled) == 2
    assert len(set(cancelled)) == 1


def test_every_job_carries_the_label_of_what_it_is_for(
    project: BigQueryProject, users: FeatureMart, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels: list[str] = []
    original = bigquery.Client.query

    def query(self: Any, sql: str, job_config: Any = None, **options: Any) -> Any:
        labels.append(job_config.labels.get("runner") if job_config else "")
        return original(self, sql, job_config=job_config, **options)

    project.insert(users, _row(1, -3, 1), _row(2, -3, 1))
    project.materialize(-1)
    project.delete(users, "user_id = 2")
    monkeypatch.setattr(bigquery.Client, "query", query)
    project.materialize()
    assert set(labels) == {"materialize"}
    assert len(labels) == 4  # the time, the partitions written, the newest rows, the keys


def test_a_sweep_is_billed_for_what_a_plan_expects(project: BigQueryProject) -> None:
    mart = project.mart("v", {"b": "string", "c": "timestamp", "a": "int64"}, {"n": "int64"})
    project.insert(mart, *(["x", at(0), number, at(-1), at(-1), 1] for number in range(3)))
    project.materialize()
    before = {job.job_id for job in project.client.list_jobs(max_results=10_000)}
    project.materialize(full=True)
    ours = [j for j in project.client.list_jobs(max_results=10_000) if j.job_id not in before]
    swept = [j for j in ours if j.job_type == "query" and "given.position" in j.query]
    config = load_repo_config(project.settings.feature_repo, project.settings.feature_store_yaml)
    planned = planned_look_up(mart, NOW)
    expected = BigQueryEstimates(config.offline_store).expected(planned, None).bill
    assert expected is not None
    keys = 10 * 2**20  # those looked for, in a table of their own
    assert [job.total_bytes_billed for job in swept] == [expected.bytes_billed + keys]


def test_which_pushed_rows_the_mart_has_is_seen(
    project: BigQueryProject, users: FeatureMart
) -> None:
    def seen(since: datetime | None = None) -> PushesSeen:
        with open_mart(project.settings, users) as snapshot:
            return snapshot.pushes_seen(project.dataset, "pushed", since)

    assert seen() == PushesSeen()  # no such table
    columns = "user_id int64, event_timestamp timestamp, received_at timestamp"
    raw = f"{project.dataset}.pushed"
    project.run(f"create table {raw} ({columns}, collected_at timestamp)")
    assert seen() == PushesSeen()
    for hour in (-3, -2):
        times = ", ".join(f"timestamp '{at(hour + later / 4)}'" for later in range(3))
        project.run(f"insert into {raw} select 1, {times}")
    assert seen() == PushesSeen(is_last=False)
    project.insert(users, _row(1, -3, 10, created=-2.75))
    assert seen() == PushesSeen(at(-2.5), at(-2.75), is_last=False)
    assert seen(since=at(-2.5)) == PushesSeen(is_last=False)
    assert seen(since=at(-1.5)) == PushesSeen()
    project.insert(users, _row(1, -2, 10, created=-1.75))
    assert seen(since=at(-2.5)) == PushesSeen(at(-1.5), at(-1.75))
    project.run(f"drop table {raw}")


def test_duplicate_rows_are_counted_and_a_clean_table_is_read_once(
    project: BigQueryProject, users: FeatureMart, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.insert(users, _row(1, -3, 1), _row(2, -3, 1))
    found = find_duplicates(project.settings, users)
    assert found.rows == 0
    assert found.billed is not None
    assert find_duplicates(project.settings, users).billed is None
    project.insert(users, _row(1, -3, 7), _row(1, -3, 8), _row(2, -1, 1))
    found = find_duplicates(project.settings, users)
    assert (found.rows, len(found.first)) == (3, 1)
    assert found.first[0].startswith("user_id 1, ")
    assert found.first[0].endswith(" (3 rows)")


def test_a_mart_without_a_table_is_named(project: BigQueryProject, users: FeatureMart) -> None:
    missing = dataclasses.replace(users, alias="nothing")
    with pytest.raises(RunnerError, match=r"user_activity.*nothing in test-project") as caught:
        materialize(project.settings, [missing])
    assert "dbt build" in caught.value.hint


def test_a_manifest_of_the_other_target_is_refused(
    project: BigQueryProject, users: FeatureMart
) -> None:
    other = dataclasses.replace(users, adapter_type="postgres")
    with pytest.raises(RunnerError, match="describes tables of postgres") as caught:
        materialize(project.settings, [other])
    assert "dbt parse --target cloud" in caught.value.hint


def test_partitions_by_another_column_tell_nothing(
    project: BigQueryProject,
) -> None:
    layout = "partition by timestamp_trunc(created_at, day)"
    mart = project.mart("v", {"k": "int64"}, {"n": "int64"}, layout=layout)
    table = project.client.get_table(f"{project.dataset}.v")
    assert not _is_partitioned_by_day(table, mart)

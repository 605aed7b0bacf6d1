"""Events: from a client to the raw table, each once; no acknowledged event is lost."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg.conninfo import make_conninfo

from contract.event_format import (
    EVENTS_FIELD,
    EventEntry,
    event_stream_key,
    event_tables_key,
)
from contract.redis_address import RedisAddress
from runner.commands.online.ingestion import ingest
from runner.commands.online.ingestion_report import show_ingested
from runner.commands.online.pushing import push
from runner.commands.project.checks.log_backlog import events
from runner.commands.served.collection import Collected, collect
from runner.commands.served.collection_report import show_collected
from runner.commands.served.event_collection import publish_event_tables
from runner.errors import RunnerError
from runner.settings import PostgresAddress
from runner.warehouse.collected_table import CollectedColumn, CollectedTable
from runner.warehouse.postgres.collected import PostgresCollected, open_postgres_collected
from tests import collect_process
from tests.event_project import COLUMNS, click, clicks, declare, source_manifest
from tests.online_project import PROJECT, OnlineProject
from tests.serving_bundles import write_linear_bundle
from tests.serving_process import Serving, await_, outcomes, serving

pytestmark = pytest.mark.servers

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.collect_process"])
STREAM = event_stream_key(PROJECT, "clicks")
KEY = "k" * 16


@pytest.fixture(name="bundle", scope="module")
def _bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    write_linear_bundle(folder, feast_project=PROJECT)
    return folder


@pytest.fixture(name="project")
def _project(tmp_path: Path, database: PostgresAddress, redis_url: str) -> Iterator[OnlineProject]:
    project = OnlineProject(tmp_path, database, redis_url)
    declare(project.settings)
    publish_event_tables(project.settings)
    yield project
    project.sql.close()


@pytest.fixture(name="server", scope="module")
def _server(redis_server: RedisAddress, bundle: Path) -> Iterator[Serving]:
    with serving(bundle, redis_server.url) as server:
        yield server


@pytest.fixture(name="client")
def _client(server: Serving, project: OnlineProject) -> Iterator[httpx.Client]:
    assert project  # its tables are declared
    with server.client() as client:
        yield client


def post(client: httpx.Client, *events: Any, table: str = "clicks", **headers: str) -> Any:
    answer = client.post(f"/events/{table}", json={"events": list(events)}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def counted(client: httpx.Client, before: dict[str, float]) -> dict[str, float]:
    return {
        name: count - before[name] for name, count in outcomes(client, "serving_events").items()
    }


def collected(project: OnlineProject) -> Collected:
    done = collect(project.settings, None)
    assert done.errors == []
    return done


def test_good_events_are_in_the_table_and_bad_ones_come_back_by_position(
    project: OnlineProject, client: httpx.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    before = outcomes(client, "serving_events")
    whole = click(1, price=12.5, is_new=False, clicked_at="2026-03-01T12:00:00Z")
    whole |= {"day": "2026-03-01", "tags": {"a": [1]}, "page": "home"}
    answer = post(client, whole, click(2, user_id="x"), click(3), {"user_id": 4})
    assert answer == {
        "accepted": 2,
        "rejected": [
            {"position": 1, "reason": "user_id must be a whole number of 64 bits"},
            {
                "position": 3,
                "reason": "click_id is missing: without this id, a retry would add the event again",
            },
        ],
    }
    assert counted(client, before) == {"accepted": 2, "rejected": 2, "not_recorded": 0}
    told = events(project.settings)
    assert told.startswith("clicks: 1 entry of 0.0 MiB waits for `runner collect`, the oldest for")
    show_collected(collected(project))
    assert "raw_data.clicks: 2 events written\n" in capsys.readouterr().out
    (one, two) = clicks(project.sql, "*, received_at <= collected_at")
    assert [str(value) for value in one[1:9]] == [
        *("c1", "1", "12.5", "False", "2026-03-01 12:00:00+00:00", "2026-03-01", "{'a': [1]}"),
        "home",
    ]
    assert (one[-1], two[1:4]) == (True, ("c3", 3, None))
    indexes = project.sql.execute("select indexdef from pg_indexes where tablename = 'clicks'")
    assert any(text.endswith("(collected_at)") for (text,) in indexes)
    assert project.redis().xlen(STREAM) == 0


def test_a_retry_adds_no_row_collected_or_not_by_id_or_by_idempotency_key(
    project: OnlineProject, client: httpx.Client
) -> None:
    key = {"Idempotency-Key": "order-17"}
    for _ in range(2):
        assert post(client, click(1), click(1, page="other"))["accepted"] == 2
        assert post(client, {"user_id": "bad"}, {"user_id": 2}, **key)["accepted"] == 1
    assert sum(each.known for each in collected(project).events) == 4
    post(client, click(1))
    post(client, {"user_id": "bad"}, {"user_id": 2}, **key)
    assert sum(each.written for each in collected(project).events) == 0
    assert clicks(project.sql, "click_id, page") == [("c1", None), ("order-17/1", None)]


@pytest.mark.parametrize("point", ["written", "committed", "trimmed"])
def test_who_collects_is_killed_anywhere_and_each_event_is_there_once(
    project: OnlineProject, client: httpx.Client, point: str
) -> None:
    for turn in range(4):  # of 300 rows to a transaction: two of them
        post(client, *(click(150 * turn + i) for i in range(150)))
    process = _FORKS.Process(target=collect_process.run, args=(project.settings, point, 1))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    post(client, click(600))
    collected(project)
    assert clicks(project.sql, "user_id") == [(i,) for i in range(601)]
    assert project.redis().xlen(STREAM) == 0


def test_what_is_collected_later_has_a_later_instant_though_the_clock_of_postgresql_jumps_back(
    project: OnlineProject, client: httpx.Client
) -> None:
    post(client, click(1))
    collected(project)
    project.sql.execute("update raw_data.clicks set collected_at = now() + interval '1 hour'")
    for number in (2, 3):
        post(client, click(number))
        collected(project)
    order = project.sql.execute("select user_id from raw_data.clicks order by collected_at")
    assert order.fetchall() == [(1,), (2,), (3,)]


def test_large_requests_are_collected_a_few_at_a_time(
    project: OnlineProject, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(21):
        post(client, click(number))
    sizes: list[int] = []
    append = PostgresCollected.append

    def noted(store: PostgresCollected, rows: Any) -> int:
        sizes.append(len(rows))
        return append(store, rows)

    monkeypatch.setattr(PostgresCollected, "append", noted)
    monkeypatch.setattr("runner.collecting.drain._BYTES", 1)
    collected(project)
    assert sizes == [10, 10, 1]


def test_a_full_redis_refuses_events_and_keeps_all_that_it_acknowledged(
    project: OnlineProject, client: httpx.Client
) -> None:
    redis, before = project.redis(), outcomes(client, "serving_events")
    post(client, click(1))
    used = redis.info("memory")["used_memory"]
    try:
        redis.config_set("maxmemory-policy", "noeviction")
        redis.config_set("maxmemory", used + 2**20)
        accepted = []
        while True:
            number = 10 + len(accepted)
            event = click(number, tags=["x" * 200_000])
            answer = client.post("/events/clicks", json={"events": [event]})
            if answer.status_code != 200:
                break
            accepted.append(number)
        redis.config_set("maxmemory", 1)  # not even the smallest write has room
        refused = client.post("/events/clicks", json={"events": [click(1)]})
        collected(project)
        assert redis.xlen(STREAM) == 0
    finally:
        redis.config_set("maxmemory", 0)
    assert refused.status_code == 503
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["code"] == "events_not_recorded"
    assert counted(client, before)["not_recorded"] == 2
    post(client, click(number))
    collected(project)
    assert clicks(project.sql, "user_id") == [(1,), *((n,) for n in accepted), (number,)]


@pytest.mark.parametrize(
    ("path", "rows", "counter"),
    [
        ("/events/other", {"events": [{}, {}]}, "serving_events"),
        ("/push/other", {"rows": [{}, {}]}, "serving_pushed_rows"),
    ],
)
def test_rows_are_counted_as_not_recorded_while_redis_does_not_say_where_they_belong(
    project: OnlineProject, client: httpx.Client, path: str, rows: Any, counter: str
) -> None:
    before = outcomes(client, counter)
    redis, key = project.redis(), event_tables_key(PROJECT)
    redis.delete(key)
    redis.set(key, "not a hash")
    answer = client.post(path, json=rows)
    redis.delete(key)
    assert answer.status_code == 503
    assert outcomes(client, counter)["not_recorded"] == before["not_recorded"] + 2


def test_a_table_that_no_source_declares_is_unknown_and_what_waits_is_collected(
    project: OnlineProject, bundle: Path
) -> None:
    with serving(bundle, project.settings.redis.url) as server, server.client() as client:
        refused = client.post("/events/other", json={"events": [{}]})
        post(client, click(1))
        declare(project.settings, source_manifest(event_id=None))
        assert [each.written for each in collected(project).events] == [1]
        since = time.monotonic()
        await_(lambda: client.post("/events/clicks", json={"events": [{}]}).status_code == 404)
        assert time.monotonic() - since < 6  # as docs/events.md says, and a busy machine
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "unknown_table")


def test_events_that_come_just_after_a_table_is_closed_are_collected(
    project: OnlineProject,
) -> None:
    declare(project.settings, source_manifest(event_id=None))
    collected(project)
    late = EventEntry(1.0, ["click_id", "user_id"], [["c1", 1]])  # its server did not know yet
    project.redis().xadd(STREAM, {EVENTS_FIELD: late.dump()})
    collected(project)
    assert clicks(project.sql) == [("c1", 1)]


def test_a_source_that_is_declared_wrong_is_reported_and_what_waits_is_collected(
    project: OnlineProject, client: httpx.Client
) -> None:
    post(client, click(1))
    declare(project.settings, source_manifest(COLUMNS | {"user_id": "point"}))
    done = collect(project.settings, None)
    assert ["data_type point" in error.message for error in done.errors] == [True]
    assert clicks(project.sql) == [("c1", 1)]


def test_serving_adds_tables_and_changes_none_that_are_known(project: OnlineProject) -> None:
    declare(project.settings, source_manifest(COLUMNS | {"shop": "text"}))
    collected(project)
    older = source_manifest()
    added = older["sources"]["source.shop.web.clicks"] | {"name": "views"}
    older["sources"]["source.shop.web.views"] = added
    declare(project.settings, older)
    publish_event_tables(project.settings)
    found = project.redis().hgetall(event_tables_key(PROJECT))
    assert sorted(found) == [b"clicks", b"views"]
    assert b'"shop"' in found[b"clicks"]


def test_a_column_that_the_source_lost_blocks_until_it_is_back_and_a_new_one_is_added(
    project: OnlineProject, client: httpx.Client
) -> None:
    post(client, click(1))
    collected(project)
    post(client, click(2, page="home"))
    columns = {name: kind for name, kind in COLUMNS.items() if name != "page"}
    declare(project.settings, source_manifest(columns))
    (error,) = collect(project.settings, None).errors
    assert "raw_data.clicks: waiting events have a column 'page'" in error.message
    declare(project.settings, source_manifest(COLUMNS | {"shop": "text"}))
    collected(project)
    assert clicks(project.sql, "user_id, page, shop") == [(1, None, None), (2, "home", None)]


def test_a_table_of_somebody_else_needs_the_columns_and_an_index(
    project: OnlineProject, client: httpx.Client
) -> None:
    project.sql.execute("create schema raw_data")
    project.sql.execute(
        "create table raw_data.clicks (click_id text, user_id int, price numeric(6,2), "
        "is_new bool, clicked_at timestamptz, day date, tags jsonb, page text)"
    )
    post(client, click(1))
    (error,) = collect(project.settings, None).errors
    assert "received_at" in error.message
    project.sql.execute("alter table raw_data.clicks add received_at timestamptz")
    (error,) = collect(project.settings, None).errors
    assert "no unique or exclusion constraint" in error.message
    project.sql.execute("create unique index on raw_data.clicks (click_id)")
    collected(project)
    assert clicks(project.sql) == [("c1", 1)]


def test_a_row_that_the_warehouse_refuses_stops_no_other_table(
    project: OnlineProject, client: httpx.Client
) -> None:
    collected(project)
    project.sql.execute("alter table raw_data.clicks add check (user_id > 1)")
    source = source_manifest()
    views = source_manifest()["sources"]["source.shop.web.clicks"] | {"name": "views"}
    source["sources"]["source.shop.web.views"] = views | {"identifier": "views"}
    declare(project.settings, source)
    (done,) = [each for each in collected(project).events if each.name == "raw_data.views"]
    assert done.written == 0
    post(client, click(1))
    post(client, click(1), table="views")
    answer = collect(project.settings, None)
    assert [each.written for each in answer.events] == [0, 1]
    assert "raw_data.clicks refuses a row: new row for relation" in answer.errors[0].message


def test_entries_of_something_else_are_dropped_and_counted(
    project: OnlineProject, client: httpx.Client
) -> None:
    project.redis().xadd(STREAM, {EVENTS_FIELD: b"?"})
    post(client, click(1))
    (done,) = collected(project).events
    assert (done.written, done.foreign) == (1, 1)


@pytest.mark.parametrize(
    ("env", "key", "events", "predict"),
    [
        ({}, "", 200, 422),
        ({"SERVING_API_KEYS": KEY}, KEY, 403, 422),
        ({"SERVING_EVENT_KEYS": KEY}, KEY, 200, 422),
        ({"SERVING_API_KEYS": "p" * 16, "SERVING_EVENT_KEYS": KEY}, KEY, 200, 401),
        ({"SERVING_API_KEYS": "p" * 16, "SERVING_EVENT_KEYS": KEY}, "p" * 16, 401, 422),
    ],
)
def test_events_have_keys_of_their_own(
    project: OnlineProject,
    bundle: Path,
    env: dict[str, str],
    key: str,
    events: int,
    predict: int,
) -> None:
    headers = {"X-API-Key": key} if key else {}
    url = project.settings.redis.url
    with serving(bundle, url, **env) as server, server.client(**headers) as client:
        asked = client.post("/events/clicks", json={"events": [click(1)]})
        assert asked.status_code == events
        assert client.post("/predict", json={}).status_code == predict


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{", {}, 422, "invalid_request"),
        (b'{"events": []}', {}, 422, "invalid_request"),
        (b'{"events": [{"user_id": 1, "user_id": 2}]}', {}, 422, "invalid_request"),
        (b'{"events": [{}]}', {"Idempotency-Key": "a b"}, 422, "invalid_request"),
        (b'{"events": [{}]}', {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        (b'{"events": [' + b"{}," * 1000 + b"{}]}", {}, 413, "request_too_large"),
        (b'{"events": ["' + b"x" * 2**20 + b'"]}', {}, 413, "request_too_large"),
    ],
)
def test_a_request_that_is_none_records_nothing(
    project: OnlineProject,
    client: httpx.Client,
    body: bytes,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    headers = {"Content-Type": "application/json"} | headers
    answer = client.post("/events/clicks", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert project.redis().xlen(STREAM) == 0


def test_files_of_every_kind_are_ingested_once_and_bad_rows_are_listed(
    project: OnlineProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = tmp_path / "a.ndjson"
    lines.write_text('{"click_id": "c1", "user_id": 1}\n\n{"user_id": 2}\n{"user_id": \n{}\n')
    done = ingest(project.settings, "clicks", str(lines))
    assert (done.written, [row for row, _ in done.rejected]) == (2, [4, 5])
    show_ingested(done, as_json=False)
    told = capsys.readouterr()
    assert told.out == "raw_data.clicks: 2 events written\n"
    assert "warning: row 5: user_id is missing or null" in told.err
    assert "hint: correct these rows; without ids, the rows of a changed file are new" in told.err
    assert (ingest(project.settings, "clicks", str(lines)).known) == 2
    table = tmp_path / "a.csv"
    table.write_text(
        "click_id,user_id,price,is_new,clicked_at,day,page\n"
        "c3,3,1.50,true,2026-03-01T12:00:00Z,2026-03-01,07\nc4,1_0,,,,,\n"
    )
    done = ingest(project.settings, "clicks", str(table))
    assert (done.written, [row for row, _ in done.rejected]) == (1, [2])
    columns = {"click_id": ["c5"], "user_id": [5], "clicked_at": [None]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert ingest(project.settings, "clicks", str(tmp_path / "a.parquet")).written == 1
    found = clicks(project.sql, "right(click_id, 2), user_id, price::text, page")
    assert found == [
        ("c1", 1, None, None),
        ("/3", 2, None, None),
        ("c3", 3, "1.50", "07"),
        ("c5", 5, None, None),
    ]


def test_a_file_that_cannot_be_read_to_its_end_says_which_rows_are_written(
    project: OnlineProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostgresCollected, "rows_at_once", 1_000)
    text = '"""' + "x" * 1_000 + '"""'  # Arrow reads a megabyte at a time
    rows = [f"c{number},{number},{text}" for number in range(3_000)]
    rows[50] = "c50,x,wrong"
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["click_id,user_id,tags", *rows, "c3000"]))
    with pytest.raises(RunnerError, match="Expected 3 columns, got 1: c3000") as caught:
        ingest(project.settings, "clicks", str(path))
    assert "leave out those that are written" in caught.value.hint
    [(written,)] = project.sql.execute("select count(*) from raw_data.clicks").fetchall()
    assert f"; its first {written + 1:,} rows are done" in caught.value.message


def test_a_producer_that_pauses_keeps_no_other_from_collecting(
    project: OnlineProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def produced() -> Iterator[bytes]:
        yield b'{"click_id": "c1", "user_id": 1}'
        leases.extend(project.redis().keys("runner:collect:lease:*"))

    leases: list[bytes] = []
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=produced()))
    assert ingest(project.settings, "clicks", "-").written == 1
    assert leases == []


@pytest.mark.parametrize("write", [ingest, push])
def test_dbt_reads_a_project_that_has_changed_before_a_file_is_checked(
    project: OnlineProject, write: Callable[..., object]
) -> None:
    (project.settings.root / "models" / "sources.yml").write_text("sources: {}\n")
    with pytest.raises(RunnerError, match="dbt has no other profile"):
        write(project.settings, "clicks", "-")


def test_what_cannot_be_ingested_is_refused(project: OnlineProject, tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="no dbt source takes events as 'click'") as caught:
        ingest(project.settings, "click", "-")
    assert "clicks" in caught.value.message
    with pytest.raises(RunnerError, match="No such file"):
        ingest(project.settings, "clicks", str(tmp_path / "gone.csv"))
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(RunnerError, match=r"is not a \.ndjson, \.csv or \.parquet file"):
        ingest(project.settings, "clicks", str(tmp_path / "a.txt"))


class _Slow(list[Any]):
    """Rows that come one at a time, each when it is let through."""

    def __init__(self, rows: list[Any], begun: threading.Event, go_on: threading.Event) -> None:
        super().__init__(rows)
        self._begun, self._go_on = begun, go_on

    def __iter__(self) -> Iterator[Any]:
        for row in super().__iter__():
            self._begun.set()
            assert self._go_on.wait(20)
            yield row


def test_who_appends_while_another_does_waits_so_that_collected_at_is_the_order_of_commits(
    database: PostgresAddress,
) -> None:
    columns = (CollectedColumn("id", "text", required=True), CollectedColumn("day", "date"))
    table = CollectedTable("clicks", columns, ("id",), "day")
    begun, go_on = threading.Event(), threading.Event()

    def append(rows: list[Any]) -> int:
        with open_postgres_collected(
            make_conninfo(**database.conninfo), "raw_data", table
        ) as store:
            return store.append(rows)

    append([["0", date(2026, 1, 1)]])
    with (
        ThreadPoolExecutor(2) as pool,
        psycopg.connect(**database.conninfo, autocommit=True) as sql,
    ):
        first = pool.submit(append, _Slow([["1", date(2026, 1, 1)]], begun, go_on))
        assert begun.wait(20)
        second = pool.submit(append, [["2", date(2026, 1, 1)]])
        waiting = "select from pg_stat_activity where wait_event = 'advisory'"
        while not second.done() and not sql.execute(waiting).fetchall():
            pass
        seen = sql.execute("select id from raw_data.clicks order by id").fetchall()
        go_on.set()
        assert (first.result(20), second.result(20)) == (1, 1)
        ordered = sql.execute("select id from raw_data.clicks order by collected_at").fetchall()
    assert seen == [("0",)]
    assert ordered == [("0",), ("1",), ("2",)]

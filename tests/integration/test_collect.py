"""`runner collect`: each row of the serving log once in the warehouse, whoever dies when."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from contract.log_format import FIELD, LogEntry, LogSchema, schemas_key, stream_key
from runner.collecting.served_rows import PREDICTIONS
from runner.commands.project.checks.log_backlog import serving_log, waiting_at_hand
from runner.commands.served.collection import collect, forget
from runner.commands.served.collection_report import show_collected
from runner.errors import RunnerError
from runner.settings import PostgresAddress
from runner.warehouse.open_collected import open_served_log
from tests import collect_process
from tests.emulators.certificates import make_certificate
from tests.emulators.redis_servers import redis_cluster
from tests.online_project import PROJECT, OnlineProject
from tests.serving_bundles import OnlineStore, write_linear_bundle
from tests.serving_process import predict, serving

pytestmark = pytest.mark.servers

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.collect_process"])
STREAM = stream_key(PROJECT)
SCHEMA = LogSchema(
    model="purchase",
    run_id="run1",
    label="is_purchase_7d",
    keys=("user_id",),
    features=("activity__orders_7d", "activity__country"),
    request=("channel",),
    views=("activity",),
    classes=("0", "1"),
    threshold=0.4,
    definitions={"activity": "d1"},
)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()


class Log:
    """The project's log, and the table that it is collected into."""

    def __init__(self, project: OnlineProject) -> None:
        self.project = project
        self.client = project.redis()
        self.client.hset(schemas_key(PROJECT), "b1", SCHEMA.dump())

    def add(self, first: int, rows: int = 1, *, server: str = "s1", at: float = NOW) -> None:
        """Append an entry of rows that answer users by their numbers."""
        logged = [
            (i, [first + i], [first + i, "NL", "app"], None, [NOW - 60], 1, [0.25, 0.75])
            for i in range(rows)
        ]
        self.append(LogEntry(server, first, "b1", "3", 1.0, [(at, f"r{first}", logged)]).dump())

    def append(self, content: bytes) -> None:
        self.client.xadd(STREAM, {FIELD: content})

    def collect(self, keep: str | None = None) -> Any:
        return collect(self.project.settings, keep)

    def table(self, what: str) -> list[tuple[Any, ...]]:
        """Return a query of the table's columns."""
        return self.project.sql.execute(
            f"select {what} from raw_data.predictions order by server_id, server_row"
        ).fetchall()

    @property
    def waiting(self) -> int:
        return int(self.client.xlen(STREAM))


@pytest.fixture(name="log")
def _log(tmp_path: Path, database: PostgresAddress, redis_url: str) -> Iterator[Log]:
    log = Log(OnlineProject(tmp_path, database, redis_url))
    yield log
    log.project.sql.close()
    log.client.close()


def test_a_row_says_what_the_server_saw_and_answered(log: Log) -> None:
    row = (4, [17], [None, "NL", "app"], "np", [NOW - 60.000001], 1, [0.25, 0.75])
    log.append(LogEntry("s1", 1, "b1", "3", 0.5, [(NOW, "req", [row])]).dump())
    log.collect()
    query = log.project.sql.execute("select * from raw_data.predictions")
    names = [column.name for column in query.description]
    found = dict(zip(names, query.fetchone(), strict=True))
    assert found.pop("collected_at") is not None
    assert found == {
        "served_at": datetime.fromtimestamp(NOW, UTC),
        "server_id": "s1",
        "server_row": 1,
        "request_id": "req",
        "request_row": 4,
        "model_name": "purchase",
        "model_version": "3",
        "run_id": "run1",
        "bundle_sha256": "b1",
        "label": "is_purchase_7d",
        "entity_keys": {"user_id": 17},
        "features": {
            "activity__orders_7d": None,
            "activity__country": "NL",
            "channel": "app",
        },
        "statuses": {"activity__orders_7d": "null", "channel": "request"},
        "event_times": {"activity": "2026-03-01T11:58:59.999999+00:00"},
        "definitions": {"activity": "d1"},
        "prediction": "1",
        "probabilities": {"0": 0.25, "1": 0.75},
        "decision_threshold": 0.4,
        "log_share": 0.5,
        "answered_as": "answer",
    }


def test_a_null_answer_is_null_in_a_table_of_an_earlier_version_too(log: Log) -> None:
    log.add(1)
    log.collect()
    log.project.sql.execute("alter table raw_data.predictions alter prediction set not null")
    row = (0, [17], [None, None, "app"], "mm", [None], None, None)
    log.append(LogEntry("s1", 2, "b1", "3", 1.0, [(NOW, "r", [row])]).dump())
    log.collect()
    assert log.table("prediction") == [("1",), (None,)]


def test_a_table_of_an_earlier_version_gets_new_columns_though_nothing_waits(log: Log) -> None:
    log.add(1)
    log.collect()
    log.project.sql.execute("alter table raw_data.predictions drop column answered_as")
    with (
        open_served_log(log.project.settings, PREDICTIONS) as reader,
        pytest.raises(RunnerError, match="answered_as") as caught,
    ):
        reader.rows(f"select answered_as from {reader.sql.table}")
    assert caught.value.hint.startswith("run `runner collect`")
    log.collect()
    assert log.table("answered_as") == [(None,)]


def test_a_shadows_rows_are_marked(log: Log) -> None:
    row = (0, [17], [1, "NL", "app"], None, [NOW], 1, None)
    for first, is_shadow in ((1, False), (2, True)):
        answers = [(NOW, "req", [row])]
        log.append(LogEntry("s1", first, "b1", "3", 1.0, answers, is_shadow).dump())
    log.collect()
    query = "select answered_as from raw_data.predictions order by server_row"
    assert log.project.sql.execute(query).fetchall() == [("answer",), ("shadow",)]


def test_values_keep_every_digit_and_texts_every_letter_that_postgresql_has(log: Log) -> None:
    row = (0, ["a\0\\u0000é"], [2**53 + 1, 'say "no"\n', 0.1 + 0.2], None, [None], 1, None)
    log.append(LogEntry("s1", 1, "b1", "3", 1.0, [(NOW, "r", [row])]).dump())
    log.collect()
    [(keys, features, precise)] = log.table(
        "entity_keys, features, (features ->> 'activity__orders_7d')::bigint"
    )
    assert keys == {"user_id": "a\N{REPLACEMENT CHARACTER}\\u0000é"}
    assert precise == 2**53 + 1
    assert (features["activity__country"], features["channel"]) == ('say "no"\n', 0.1 + 0.2)


def test_the_log_is_empty_once_it_is_in_the_table_and_goes_on_from_there(log: Log) -> None:
    log.add(1, rows=3)
    assert (log.collect().written, log.waiting) == (3, 0)
    assert log.collect().written == 0
    log.add(4, rows=2)
    done = log.collect()
    assert (done.written, done.known, done.lost) == (2, 0, 0)
    assert log.table("server_row") == [(i,) for i in range(1, 6)]


def test_the_log_of_a_full_redis_is_collected(log: Log) -> None:
    log.add(1, rows=3)
    log.client.config_set("maxmemory-policy", "noeviction")
    log.client.config_set("maxmemory", 1)
    try:
        assert (log.collect().written, log.waiting) == (3, 0)
    finally:
        log.client.config_set("maxmemory", 0)
    log.add(4)
    assert log.collect().lost == 0


def test_each_day_has_a_partition(log: Log) -> None:
    log.add(1, at=datetime(2026, 2, 28, 23, 59, 59, 999_000, tzinfo=UTC).timestamp())
    log.add(2, at=datetime(2026, 3, 1, tzinfo=UTC).timestamp())
    log.collect()
    found = log.table("tableoid::regclass::text")
    assert found == [("raw_data.predictions_20260228",), ("raw_data.predictions_20260301",)]


@pytest.mark.parametrize("point", collect_process.POINTS)
@pytest.mark.parametrize("time", [1, 2])
def test_who_dies_anywhere_leaves_each_row_once_for_the_next(
    log: Log, point: str, time: int
) -> None:
    for entry in range(400):  # of 300 rows to a transaction: two of them
        log.add(1 + entry, at=NOW + entry % 2 * 86_400)
    process = _FORKS.Process(target=collect_process.run, args=(log.project.settings, point, time))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    done = log.collect()
    assert (log.waiting, done.lost) == (0, 0)
    assert log.table("server_row") == [(i,) for i in range(1, 401)]
    assert (done.known > 0) == (point in {"committed", "counted"})


def test_two_at_once_take_turns(log: Log) -> None:
    for entry in range(900):
        log.add(1 + entry)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(log.collect) for _ in range(2)]
    done = [each.result() for each in both]
    assert sum(each.written for each in done) == 900
    assert [(each.known, each.lost) for each in done] == [(0, 0), (0, 0)]
    assert log.table("server_row") == [(i,) for i in range(1, 901)]


def test_rows_that_were_trimmed_or_dropped_are_counted(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    log.add(11, rows=5)  # 1 to 10 never came
    log.add(20, rows=1)
    log.add(1, server="s2")
    assert log.collect().lost == 14
    log.add(24)
    done = log.collect()
    assert (done.written, done.lost) == (1, 3)
    show_collected(done)
    told = capsys.readouterr()
    assert told.out == "raw_data.predictions: 1 row written\n"
    assert "warning: 3 answered rows are lost" in told.err


def test_an_entry_of_something_else_is_dropped_and_counted(log: Log) -> None:
    log.append(b"?")
    log.append(b'[99,"of a later version"]')
    log.client.xadd(STREAM, {"other": "x"})
    log.add(1)
    done = log.collect()
    assert (done.written, done.foreign, log.waiting) == (1, 3, 0)


def test_rows_whose_schema_is_gone_are_kept_without_names(log: Log) -> None:
    log.client.delete(schemas_key(PROJECT))
    log.add(1)
    log.collect()
    assert log.table("model_name, model_version, entity_keys, features, probabilities") == [
        (None, "3", [1], [1, "NL", "app"], [0.25, 0.75])
    ]
    assert forget(log.project.settings, "user_id=1")[1] == 0
    log.project.sql.execute(
        "delete from raw_data.predictions where model_name is null and entity_keys ->> 0 = '1'"
    )
    assert log.table("1") == []


def test_rows_of_days_before_are_deleted_when_asked(log: Log) -> None:
    today = datetime.now(UTC)
    for days in (0, 1, 2, 3):
        log.add(1 + days, at=(today - timedelta(days=days)).timestamp())
    done = log.collect(keep="2d")
    assert (done.written, done.deleted) == (4, 1)
    assert log.table("server_row") == [(1,), (2,), (3,)]
    with pytest.raises(RunnerError, match="--keep 'soon' is not a duration"):
        log.collect(keep="soon")


def test_an_entity_is_forgotten_collected_or_not_hashed_or_not(log: Log) -> None:
    log.add(1, rows=3)
    log.collect()
    log.add(2, server="s2")
    hashed = (0, [sha256(b"2").hexdigest()], [0, "", ""], None, [None], 0, None)
    log.append(LogEntry("s3", 1, "b1", "3", 1.0, [(NOW, "r", [hashed])]).dump())
    assert forget(log.project.settings, "user_id=2") == ("raw_data.predictions", 3)
    assert log.table("entity_keys ->> 'user_id'") == [("1",), ("3",)]
    assert forget(log.project.settings, "user_id=2")[1] == 0
    with pytest.raises(RunnerError, match="no logged model has the entity key 'usr_id'") as caught:
        forget(log.project.settings, "usr_id=3")
    assert caught.value.hint == "entity keys of logged models: user_id"
    with pytest.raises(RunnerError, match="'user_id' is not KEY=VALUE"):
        forget(log.project.settings, "user_id")


def test_who_may_not_create_a_schema_writes_into_one_that_is_there(log: Log) -> None:
    log.add(1)
    log.project.sql.execute("create schema raw_data")
    database = log.project.settings.postgres.database
    log.project.sql.execute("drop role if exists collector")
    log.project.sql.execute("create role collector login password 'collector'")
    log.project.sql.execute("grant usage, create on schema raw_data to collector")
    log.project.sql.execute(f"revoke create on database {database} from public")
    env = {**log.project.settings.env, "PGUSER": "collector", "PGPASSWORD": "collector"}
    object.__setattr__(log.project.settings, "env", env)
    assert log.collect().written == 1


def test_a_warehouse_that_is_away_leaves_the_log_as_it_is(log: Log) -> None:
    log.add(1)
    log.project.sql.execute("create schema raw_data")
    log.project.sql.execute("create view raw_data.predictions as select 1 as x")
    with pytest.raises(RunnerError, match=r"PostgreSQL, raw_data\.predictions: ") as caught:
        log.collect()
    assert "not one that `runner collect` created" in str(caught.value.hint)
    assert log.waiting == 1
    log.project.sql.execute("drop view raw_data.predictions")
    assert log.collect().written == 1


def test_what_waits_is_told(log: Log) -> None:
    assert serving_log(log.project.settings) == "nothing waits for `runner collect`"
    log.add(1, rows=10)
    log.add(11)
    told = serving_log(log.project.settings)
    assert told.startswith("2 entries of 0.0 MiB wait for `runner collect`, the oldest for ")
    assert waiting_at_hand(log.project.settings) == told
    object.__setattr__(log.project.settings, "env", {"REDIS_URL": "redis://127.0.0.1:1/0"})
    assert waiting_at_hand(log.project.settings) == ""


def test_every_answered_row_is_in_the_table_once_though_collect_and_server_are_killed(
    log: Log, tmp_path: Path
) -> None:
    store = OnlineStore(log.project.settings.redis.url)
    for user in range(10):
        store.write_user(user, "toys", orders=user)
    write_linear_bundle(tmp_path / "bundle")
    answered = 0
    with serving(tmp_path / "bundle", log.project.settings.redis.url) as server:
        server.wait_for("serving log connected")
        with server.client() as client:
            for turn in range(60):
                users = [(turn + i) % 10 for i in range(1 + turn % 7)]
                rows = [{"user_id": user, "category_id": "toys"} for user in users]
                assert predict(client, *rows).status_code == 200
                answered += len(rows)
                if turn % 20 == 10:
                    point = ("committed", "written", "trimmed")[turn // 20]
                    process = _FORKS.Process(
                        target=collect_process.run, args=(log.project.settings, point, 1)
                    )
                    process.start()
                    process.join(60)
            recorded = 0.0
            deadline = time.monotonic() + 20
            while recorded < answered and time.monotonic() < deadline:
                text = client.get("/metrics").text
                line = next(part for part in text.splitlines() if 'outcome="recorded"' in part)
                recorded = float(line.rpartition(" ")[2])
        server.process.kill()
    assert recorded == answered
    assert log.collect().lost == 0
    found = log.table("server_row, features ->> 'user_activity__orders_7d', entity_keys")
    assert [number for number, _, _ in found] == list(range(1, answered + 1))
    assert all(int(orders) == keys["user_id"] for _, orders, keys in found)


def test_a_cluster_with_tls_and_a_password_has_the_log_too(
    tmp_path: Path, database: PostgresAddress
) -> None:
    certificate = make_certificate(tmp_path / "certificates")
    yaml = f"project: {PROJECT}\nonline_store: {{redis_type: redis_cluster}}\n"
    write_linear_bundle(tmp_path / "bundle")
    with redis_cluster(tmp_path / "redis", certificate) as cluster:
        log = Log.__new__(Log)
        log.project = OnlineProject(tmp_path, database, cluster.url, yaml=yaml)
        log.client = cluster.client()
        with serving(tmp_path / "bundle", cluster.url) as server, server.client() as client:
            server.wait_for("serving log connected")
            for turn in range(4):
                assert predict(client, {"user_id": turn, "category_id": "x"}).status_code == 200
            server.stop()
        assert log.collect().lost == 0
        assert log.table("server_row, entity_keys ->> 'user_id'") == [
            (1 + turn, str(turn)) for turn in range(4)
        ]
        log.client.close()
        log.project.sql.close()

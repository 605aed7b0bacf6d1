"""A retrieval reads, and leaves nothing behind: no tables, no queries, whatever happens to it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pyarrow as pa
import pytest
from feast import Entity, FeatureStore, FeatureView, Field
from feast.types import Int64
from feast.value_type import ValueType

from runner.errors import RunnerError
from runner.settings import PostgresAddress
from runner.warehouse.join.arrow_order import BLOCK_ROWS
from runner.warehouse.postgres.session import connect
from tests import warm
from tests.feast_stores import feast_store, source

REPOSITORY = Path(__file__).resolve().parents[2]
FRAME = pd.DataFrame({"id": [1, 2], "event_timestamp": pd.Timestamp("2024-06-01", tz="UTC")})
SPINE = "select id, timestamptz '2024-06-01+00' as event_timestamp from generate_series(1, {}) id"
SLOW = """
select id, timestamptz '2024-06-01+00' as event_timestamp, pg_sleep(0.01)::text as nap
from generate_series(1, 100000) id
"""


@pytest.fixture(scope="module")
def connection(module_database: PostgresAddress) -> Iterator[Any]:
    with psycopg.connect(**module_database.conninfo, autocommit=True) as connection:
        connection.execute(
            "create table facts as select id, timestamptz '2024-05-01+00' as event_timestamp, "
            "id * 2 as double from generate_series(1, 1000) id"
        )
        connection.execute("create index on facts (id, event_timestamp)")
        connection.execute("create role reader login password 'reader'")
        connection.execute("grant select on facts to reader")
        connection.execute("revoke create on schema public from public")
        yield connection


def _objects() -> list[Any]:
    entity = Entity(name="id", join_keys=["id"], value_type=ValueType.INT64)
    view = FeatureView(
        name="facts",
        entities=[entity],
        schema=[Field(name="id", dtype=Int64), Field(name="double", dtype=Int64)],
        source=source("facts", "facts", created=""),
    )
    return [entity, view]


@pytest.fixture(scope="module")
def store(
    connection: Any, module_database: PostgresAddress, tmp_path_factory: pytest.TempPathFactory
) -> FeatureStore:
    return feast_store(module_database, tmp_path_factory.mktemp("feast"), _objects())


@pytest.fixture(scope="module")
def reader(
    connection: Any, module_database: PostgresAddress, tmp_path_factory: pytest.TempPathFactory
) -> FeatureStore:
    """A store whose role may only read and make temporary tables."""
    folder = tmp_path_factory.mktemp("reader")
    return feast_store(module_database, folder, _objects(), user="reader", password="reader")


def _job(store: FeatureStore, spine: Any) -> Any:
    return store.get_historical_features(entity_df=spine, features=["facts:double"])


def _relations(connection: Any) -> int:
    return int(connection.execute("select count(*) from pg_class").fetchone()[0])


def _running(connection: Any, query: str = "%") -> int:
    return int(
        connection.execute(
            "select count(*) from pg_stat_activity "
            "where application_name = 'runner' and datname = current_database() "
            "and state <> 'idle' and query like %s",
            [query],
        ).fetchone()[0]
    )


def _wait_until(happened: Callable[[], bool], seconds: float = 30) -> None:
    """A session ends on the server a moment after its client; look until it has."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("spine", [FRAME, SPINE.format(2)], ids=["frame", "query"])
def test_a_role_that_may_only_read_is_enough(reader: FeatureStore, spine: Any) -> None:
    assert _job(reader, spine).to_arrow().column("double").to_pylist() == [2, 4]


@pytest.mark.parametrize("spine", [FRAME, SPINE.format(2)], ids=["frame", "query"])
def test_no_table_remains(store: FeatureStore, connection: Any, spine: Any) -> None:
    before = _relations(connection)
    _job(store, spine).to_arrow()
    _wait_until(lambda: _relations(connection) == before)


def test_a_spine_query_that_writes_is_refused(store: FeatureStore, connection: Any) -> None:
    connection.execute(
        "create or replace function grow() returns bigint language sql volatile as "
        "$$ insert into facts values (0, now(), 0) returning id $$"
    )
    job = _job(store, "select grow() as id, now() as event_timestamp")
    with pytest.raises(RunnerError, match="read-only transaction"):
        job.to_arrow()


def test_a_spine_of_two_statements_is_refused(store: FeatureStore) -> None:
    with pytest.raises(RunnerError, match="the spine's SQL"):
        _job(store, "select 1 as id, now() as event_timestamp) as x; drop table facts; --")


def test_an_uploaded_frame_has_statistics(store: FeatureStore) -> None:
    with connect(store.config.offline_store, writes=True) as session:
        session.upload(pa.table({"id": [1, 2, 2]}), "rows")
        query = "select n_distinct from pg_stats where tablename = 'rows' and attname = 'id'"
        with session.read(query) as reader:
            assert reader.read_all().num_rows == 1


def test_leaving_a_stream_early_ends_its_query(store: FeatureStore, connection: Any) -> None:
    with _job(store, SPINE.format(10 * BLOCK_ROWS)).to_arrow_batches() as reader:
        assert reader.read_next_batch().num_rows == BLOCK_ROWS
        assert _running(connection) == 1
    _wait_until(lambda: _running(connection) == 0)


def test_a_stream_is_in_order_in_blocks_and_reports_progress(store: FeatureStore) -> None:
    rows = BLOCK_ROWS + 10
    job = _job(store, SPINE.format(rows) + " order by id desc")
    arrived: list[int] = []
    job.on_progress = arrived.append
    with job.to_arrow_batches() as reader:
        batches = list(reader)
    assert [batch.num_rows for batch in batches] == [BLOCK_ROWS, 10]
    ids = pa.Table.from_batches(batches).column("id").to_pylist()
    assert ids == list(range(rows, 0, -1))
    assert sum(arrived) == rows


def test_a_frame_larger_than_a_block_is_in_order(store: FeatureStore) -> None:
    rows = BLOCK_ROWS + 10
    times = pd.Timestamp("2024-06-01", tz="UTC")
    frame = pd.DataFrame({"id": range(rows, 0, -1), "event_timestamp": times, "note": "x"})
    table = _job(store, frame).to_arrow()
    assert table.column("id").to_pylist() == list(range(rows, 0, -1))
    assert table.column("double").to_pylist()[-2:] == [4, 2]


def test_a_timeout_ends_the_query_with_an_error(store: FeatureStore) -> None:
    with pytest.raises(RunnerError, match="statement timeout"):
        _job(store, SLOW).to_arrow(timeout=1)


_SCRIPT = """
from pathlib import Path
from tests.feast_stores import feast_store
from tests.integration.test_point_in_time_safety import SLOW, _job, _objects
from runner.settings import PostgresAddress
store = feast_store(PostgresAddress(**{address!r}), Path({folder!r}), _objects())
_job(store, SLOW).to_arrow()
"""


@pytest.mark.parametrize("signal_number", [signal.SIGINT, warm.KILL])
def test_an_interrupted_or_killed_client_leaves_no_query(
    connection: Any, module_database: PostgresAddress, tmp_path: Path, signal_number: int
) -> None:
    address = {
        name: getattr(module_database, name)
        for name in ("host", "port", "user", "password", "database")
    }
    before = _relations(connection)
    script = _SCRIPT.format(address=address, folder=str(tmp_path))
    client = subprocess.Popen(
        [warm.program("python"), "-c", script],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
    )
    with client:
        _wait_until(lambda: _running(connection, "%pg_sleep%") == 1, seconds=120)
        client.send_signal(signal_number)
        errors = client.stderr.read().decode() if client.stderr else ""
    if signal_number == signal.SIGINT:
        assert errors.splitlines()[-1] == "KeyboardInterrupt"
    _wait_until(lambda: _running(connection) == 0 and _relations(connection) == before)


@pytest.mark.parametrize("spine", [FRAME, SPINE.format(2)], ids=["frame", "sql"])
def test_no_call_replaces_the_handler_of_ctrl_c(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, spine: Any
) -> None:
    """In the main thread ADBC does, and a Ctrl-C at the end of such a call is lost."""
    callers = []

    def call(function: Callable[..., Any], args: Any, kwargs: Any, cancel: Any) -> Any:
        callers.append(threading.current_thread())
        return function(*args, **kwargs)

    monkeypatch.setattr("adbc_driver_manager.dbapi._blocking_call", call)
    assert _job(store, spine).to_arrow().num_rows == 2
    assert callers
    assert threading.main_thread() not in callers

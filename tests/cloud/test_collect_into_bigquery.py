"""The serving log in BigQuery: each row once, though a run dies between its jobs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from google.cloud import bigquery

from contract.event_format import EVENTS_FIELD, EventEntry, event_stream_key
from contract.log_format import FIELD, LogEntry, LogSchema, schemas_key, stream_key
from runner.collecting.served_rows import PREDICTIONS, ServedRows
from runner.commands.online.ingestion import ingest
from runner.commands.served.collection import collect, forget
from runner.online.connection import connect
from runner.online.online_config import load_online_config
from runner.warehouse.open_collected import open_collected
from tests.cloud.bigquery_project import BigQueryProject
from tests.event_project import COLUMNS, declare, source_manifest
from tests.online_project import PROJECT

pytestmark = [pytest.mark.cloud, pytest.mark.servers, pytest.mark.timeout(300)]

TABLE = "raw_events.predictions"
SCHEMA = LogSchema(
    "purchase", "run1", "bought", ("user_id",), ("a__b",), ("channel",), ("a",), ("0", "1"), 0.4
)
NOW = datetime.now(UTC)


@pytest.fixture(name="project")
def _project(
    tmp_path: Path, client: bigquery.Client, dataset: str, redis_url: str
) -> Iterator[BigQueryProject]:
    made = BigQueryProject(tmp_path, client, dataset, redis_url)
    made.settings.env["GOOGLE_CLOUD_PROJECT"] = client.project  # type: ignore[index]
    with redis.Redis.from_url(redis_url) as log:
        log.hset(schemas_key(PROJECT), "b1", SCHEMA.dump())
    yield made
    left = {table.table_id for table in client.list_tables("raw_events")}
    assert "arriving" not in " ".join(left)
    client.delete_table(TABLE, not_found_ok=True)


def add(project: BigQueryProject, first: int, rows: int, days: int = 0) -> None:
    moment = (NOW - timedelta(days=days)).timestamp()
    logged = [
        (i, [first + i], [0.1 + 0.2, 'say "é"'], None, [moment - 60], 1, [0.25, 0.75])
        for i in range(rows)
    ]
    entry = LogEntry("s1", first, "b1", "3", 1.0, [(moment, f"r{first}", logged)])
    with redis.Redis.from_url(project.settings.redis.url) as log:
        log.xadd(stream_key(PROJECT), {FIELD: entry.dump()})


def found(project: BigQueryProject, what: str) -> list[dict[str, Any]]:
    return project.run(f"select {what} from {TABLE} order by server_row")


def test_each_row_is_in_the_table_once_though_a_run_died_after_its_jobs(
    project: BigQueryProject,
) -> None:
    add(project, 1, 3)
    add(project, 4, 2, days=1)
    with connect(project.settings, load_online_config(project.settings)) as connection:
        reader = ServedRows(connection, PROJECT)
        entries = connection.client.xrange(stream_key(PROJECT))
        with open_collected(project.settings, PREDICTIONS) as store:  # and dies before it trims
            assert store.append(reader.rows(entries[0])) == 3
    done = collect(project.settings, None)
    assert (done.written, done.known, done.lost) == (2, 3, 0)
    assert [row["server_row"] for row in found(project, "server_row")] == [1, 2, 3, 4, 5]
    [first, *_] = found(project, "*")
    assert first["entity_keys"] == {"user_id": 1}
    assert first["features"] == {"a__b": 0.1 + 0.2, "channel": 'say "é"'}
    assert first["statuses"] == {"channel": "request"}
    assert first["probabilities"] == {"0": 0.25, "1": 0.75}
    assert abs(first["served_at"] - NOW) < timedelta(milliseconds=1)
    assert (first["prediction"], first["decision_threshold"]) == ("1", 0.4)


def test_days_before_and_an_entity_are_deleted(project: BigQueryProject) -> None:
    for days in (0, 1, 2, 3):
        add(project, 1 + days, 1, days=days)
    done = collect(project.settings, "2d")
    assert (done.written, done.deleted) == (4, 1)
    assert forget(project.settings, "user_id=2") == (TABLE, 1)
    assert [row["server_row"] for row in found(project, "server_row")] == [1, 3]


def test_events_are_in_their_table_once_though_sent_and_collected_again(
    project: BigQueryProject,
) -> None:
    declare(project.settings, source_manifest(schema="raw_events"))
    columns = list(COLUMNS)
    stream = event_stream_key(PROJECT, "clicks")
    event = ["c1", 2**53 + 1, "1234.50", True, "2026-03-01T12:00:00+00:00", "2026-03-01", {"a": 1}]
    with redis.Redis.from_url(project.settings.redis.url) as log:
        for day in (0, 0, 1):  # twice in one collection, and again later
            moment = (NOW + timedelta(days=day)).timestamp()
            entry = EventEntry(moment, columns, [[*event, "home"], [f"d{day}", 1, *[None] * 6]])
            log.xadd(stream, {EVENTS_FIELD: entry.dump()})
            if day or log.xlen(stream) == 2:
                done = collect(project.settings, None)
                assert done.errors == []
    wider = source_manifest(COLUMNS | {"shop": "string"}, schema="raw_events")
    declare(project.settings, wider)
    assert ingest(project.settings, "clicks", _events_file(project)).written == 1
    rows = project.run("select * from raw_events.clicks order by click_id")
    project.client.delete_table("raw_events.clicks")
    assert [row["click_id"] for row in rows] == ["c1", "d0", "d1", "e1"]
    assert (rows[0]["user_id"], float(rows[0]["price"]), rows[0]["tags"]) == (
        2**53 + 1,
        1234.5,
        {"a": 1},
    )
    assert (rows[0]["day"], rows[0]["shop"], rows[3]["shop"]) == (date(2026, 3, 1), None, "north")
    assert rows[0]["clicked_at"] == datetime(2026, 3, 1, 12, tzinfo=UTC)


def _events_file(project: BigQueryProject) -> str:
    path = project.settings.root / "events.csv"
    path.write_text("click_id,user_id,shop\ne1,2,north\n")
    return str(path)

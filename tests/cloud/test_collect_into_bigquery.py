"""The serving log in BigQuery: each row once, though a run dies between its jobs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from google.cloud import bigquery

from contract.log_format import FIELD, LogEntry, LogSchema, schemas_key, stream_key
from runner.collecting.served_rows import PREDICTIONS, ServedRows
from runner.commands.collection import collect, forget
from runner.online.connection import connect
from runner.online.online_config import load_online_config
from runner.warehouse.open_collected import open_collected
from tests.cloud.bigquery_project import BigQueryProject
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

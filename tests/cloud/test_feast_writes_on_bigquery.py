"""What stock Feast's client writes reaches the raw table of pushed rows in BigQuery, and Redis."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from feast.data_source import PushMode
from google.cloud import bigquery

from runner.errors import RunnerError
from runner.feature_store.feast_objects import feast_objects
from runner.feature_store.store import open_store
from runner.project.manifest import load_manifest
from runner.warehouse.bigquery.client import writing_alone
from runner.warehouse.bigquery.collected import BigQueryCollected
from runner.warehouse.collected_table import CollectedColumn, CollectedTable
from tests.cloud.bigquery_project import BigQueryProject
from tests.event_project import declare, source_manifest
from tests.online_project import manifest_of

pytestmark = [pytest.mark.cloud, pytest.mark.servers, pytest.mark.timeout(300)]

VIEW = "user_session"
PUSHED = CollectedTable(
    "pushed",
    (
        CollectedColumn("received_at", "timestamp", required=True),
        CollectedColumn("push_id", "text", required=True),
    ),
    key=("push_id",),
    day="received_at",
)
FEATURES = {"clicks": "int64", "score": "float64", "country": "string", "first_seen": "timestamp"}


def test_a_frame_is_in_redis_and_in_the_raw_table_that_the_mart_reads(
    tmp_path: Path,
    client: bigquery.Client,
    dataset: str,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = BigQueryProject(tmp_path, client, dataset, redis_url)
    yaml = project.settings.feature_store_yaml
    store_type = "type: runner.online.online_store.EnvRedisOnlineStore"
    yaml.write_text(yaml.read_text().replace("type: redis", store_type))
    monkeypatch.setenv("REDIS_URL", redis_url)
    mart = project.mart(VIEW, {"user_id": "int64"}, FEATURES)
    source = source_manifest({}, schema=dataset, event_id=None, pushes=VIEW)["sources"]
    content = manifest_of([mart]) | {"sources": source}
    content["nodes"][VIEW] |= {"schema": dataset, "depends_on": {"nodes": list(source)}}
    declare(project.settings, content)
    store = open_store(project.settings)
    store.apply(feast_objects(load_manifest(project.settings.manifest_path), []))

    before = datetime.now(UTC)
    rows = pd.DataFrame({"user_id": [1, 2], "clicks": [2**53 + 1, 4], "score": [0.1 + 0.2, None]})
    rows = rows.assign(country=["Österreich", None], first_seen=[before, None])
    rows["event_timestamp"] = rows["created_at"] = before
    rows["first_seen"] = pd.to_datetime(rows["first_seen"], utc=True)
    store.push(f"{VIEW}_push", rows, to=PushMode.ONLINE_AND_OFFLINE)

    assert project.run(f"select * from {dataset}.{VIEW}") == []  # the mart is dbt's
    written = project.run(f"select * from {dataset}.clicks order by user_id")
    assert [(each["clicks"], each["score"], each["country"]) for each in written] == [
        (2**53 + 1, 0.1 + 0.2, "Österreich"),
        (4, None, None),
    ]
    assert before < written[0]["received_at"] < written[1]["received_at"] < datetime.now(UTC)
    columns = ", ".join(["user_id", "event_timestamp", *FEATURES])
    project.run(
        f"insert into {dataset}.{VIEW} ({columns}, created_at) "
        f"select {columns}, received_at from {dataset}.clicks"
    )
    assert project.online() == project.expected(24 * 365 * 100)


def test_a_write_waits_for_that_of_another_process(
    client: bigquery.Client, dataset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store, row = BigQueryCollected(client, dataset, PUSHED), (datetime.now(UTC), "a")
    with ThreadPoolExecutor() as pool, writing_alone(client, dataset, PUSHED.name):
        writing, told = pool.submit(store.append, [row]), ""
        while "pushed: waiting until it has ended" not in told:
            assert not writing.done()
            time.sleep(0.01)
            told += capsys.readouterr().err
        assert not writing.done()
    assert writing.result() == 1
    assert store.append([row]) == 0
    assert locks(client, dataset) == []


def locks(client: bigquery.Client, dataset: str) -> list[str]:
    names = (table.table_id for table in client.list_tables(dataset))
    return [name for name in names if name.startswith("runner-lock-")]


def test_a_writer_leaves_the_lock_of_another_that_came_when_its_own_had_expired(
    client: bigquery.Client, dataset: str
) -> None:
    with ExitStack() as other:
        with writing_alone(client, dataset, "slow"):
            client.delete_table(f"{dataset}.runner-lock-slow")  # as BigQuery does after 5 minutes
            other.enter_context(writing_alone(client, dataset, "slow"))
        assert locks(client, dataset) == ["runner-lock-slow"]
    assert locks(client, dataset) == []


def test_a_lock_is_renewed_as_long_as_its_writer_works(
    client: bigquery.Client, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.warehouse.bigquery.client._RENEWAL_SECONDS", 0.01)
    update, renewed = client.update_table, list[datetime]()  # the emulator keeps no expiration

    def noted(table: bigquery.Table, fields: list[str]) -> None:
        assert fields == ["expires"]
        update(table, fields)
        renewed.append(table.expires)

    monkeypatch.setattr(client, "update_table", noted)
    with writing_alone(client, dataset, "long"):
        while len(renewed) < 2:
            time.sleep(0.01)
    assert datetime.now(UTC) + timedelta(minutes=4) < renewed[0] < renewed[1]
    assert locks(client, dataset) == []


def test_a_lock_whose_first_answer_was_lost_is_our_own(
    client: bigquery.Client, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = client.create_table

    def twice(table: bigquery.Table) -> None:
        create(table)
        create(table)

    monkeypatch.setattr(client, "create_table", twice)
    with writing_alone(client, dataset, "retried"):
        assert locks(client, dataset) == ["runner-lock-retried"]
    assert locks(client, dataset) == []


def test_a_writer_gives_up_and_names_the_command(
    client: bigquery.Client, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.warehouse.bigquery.client._LONGEST_WAIT_SECONDS", 0)
    with writing_alone(client, dataset, "busy"):
        with (
            pytest.raises(RunnerError, match="busy: other processes") as raised,
            writing_alone(client, dataset, "busy"),
        ):
            pass
        assert f"bq rm -t {client.project}:{dataset}.runner-lock-busy" in raised.value.hint
        assert locks(client, dataset) == ["runner-lock-busy"]


def test_a_raw_table_is_not_named_as_a_lock(client: bigquery.Client, dataset: str) -> None:
    with (
        pytest.raises(RunnerError, match="begins with 'runner-lock-'"),
        writing_alone(client, dataset, "runner-lock-posts"),
    ):
        pass

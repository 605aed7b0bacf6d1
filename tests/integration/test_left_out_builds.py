"""A build is skipped only if it would change nothing; in doubt, dbt builds."""

import psycopg
import pytest

from runner.commands.builds.built_sql import build_sql, require_fit
from runner.commands.builds.last_build import BuildReads, LastBuild
from runner.errors import RunnerError
from runner.project.manifest_file import read_manifest
from runner.recipes.recipe import load_recipe
from runner.warehouse.postgres import table_states
from runner.warehouse.postgres.table_states import TableStates, postgres_states
from runner.warehouse.table_state import UnknownStateError
from tests.e2e.conftest import Project, environment
from tests.integration.test_dbt import READINGS, SPINE
from tests.small_project import write_project

NAMES = ["spine_high", "reading"]


@pytest.fixture(scope="module")
def project(tmp_path_factory, module_database, redis_server):
    """The small project, with ten rows in its raw table; the last build added one to the mart."""
    root = write_project(tmp_path_factory.mktemp("left-out"))
    project = Project(root, environment(module_database, redis_server))
    project.query(READINGS)
    assert built(project) == ""
    project.query("insert into raw_data.readings values (10, '2025-01-02', 0.5, 'x')")
    assert built(project) == ""
    return project


def built(project, *, no_build=False):
    """Build the recipe's SQL; return why dbt was left out, empty if it was not."""
    recipe = load_recipe(project.root / "recipes/small.yaml")
    require_fit(project.settings, recipe)
    return build_sql(project.settings, recipe, no_build=no_build).left_out


def test_what_did_not_change_is_not_built_again(project):
    assert built(project).startswith("nothing changed since the build of 20")


@pytest.fixture
def states(database):
    """The states of a database with a table of three rows and a view, and a way to change them."""
    with (
        psycopg.connect(**database.conninfo, autocommit=True) as changing,
        psycopg.connect(
            **database.conninfo, autocommit=True, row_factory=psycopg.rows.dict_row
        ) as reading,
    ):
        changing.execute("create table t as select n, 'a' as text from generate_series(1, 3) as n")
        changing.execute("create view v as select n from t")
        yield TableStates(reading), changing


@pytest.mark.parametrize(
    "change",
    [
        "insert into t values (4, 'd')",
        "update t set text = 'b' where n = 1",
        "delete from t where n = 2",
        "with gone as (delete from t where n = 3 returning *) insert into t select * from gone",
        "truncate t",
        "alter table t add column more int default 1",
        "alter table t rename text to words",
        "alter table t rename to other; create table t as table other",
    ],
)
def test_whatever_changes_a_table_changes_its_state(states, change):
    known, changing = states
    before = known.table("t")
    assert known.table("t") == before
    changing.execute(change)
    assert known.table("t") != before


def test_a_view_is_known_by_its_sql_and_is_no_source(states):
    known, changing = states
    before = known.view("v")
    changing.execute("create or replace view v as select n + 1 as n from t")
    assert known.view("v") != before
    for ask in (lambda: known.table("v"), lambda: known.view("t"), lambda: known.table("nowhere")):
        with pytest.raises(UnknownStateError):
            ask()


def test_what_takes_long_to_find_out_is_not_known(states, database, monkeypatch):
    monkeypatch.setattr(table_states, "_LONGEST", "100ms")
    _, changing = states
    assert postgres_states(database, ["t"], ["v"], "")
    with changing.transaction():
        changing.execute("lock table t in access exclusive mode")
        with pytest.raises(UnknownStateError, match="statement timeout"):
            postgres_states(database, ["t"], ["v"], "")


def test_rows_that_come_while_dbt_builds_are_built_by_the_next(project):
    builds = LastBuild(project.settings, NAMES)
    insert = "insert into raw_data.readings values (20, '2025-01-05', 0.5, 'x')"
    builds.begin()
    project.query(insert)
    builds.end()
    assert builds.unneeded() == ""
    builds.begin()
    builds.end()
    assert builds.unneeded()
    builds.begin()  # one that fails ends nowhere
    assert builds.unneeded() == ""
    builds.end()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("text from", "now()::text as text from", "the time or chance"),
        ("raw_data", "other", "stg_readings reads tables that dbt does not know of"),
        ("select", "{% do run_query('select 1') %} select", "dbt asks the warehouse"),
    ],
)
def test_sql_that_depends_on_more_than_its_sources_is_always_built(project, old, new, reason):
    content = read_manifest(project.settings.manifest_path)
    BuildReads(content, NAMES).require_nothing_else()
    staging = content["nodes"]["model.shop.stg_readings"]
    for code in ("raw_code", "compiled_code"):
        staging[code] = staging[code].replace(old, new)
    with pytest.raises(UnknownStateError, match=reason):
        BuildReads(content, NAMES).require_nothing_else()


def test_what_has_other_hooks_than_those_of_a_new_project_is_always_built(project):
    content = read_manifest(project.settings.manifest_path)
    mart = content["nodes"]["model.shop.reading"]["config"]
    mart["pre-hook"] = [{"sql": "{{ session_in_utc() }}"}]
    BuildReads(content, NAMES).require_nothing_else()
    mart["post-hook"] = [{"sql": "delete from {{ this }}"}]
    with pytest.raises(UnknownStateError, match="a hook"):
        BuildReads(content, NAMES).require_nothing_else()
    mart["post-hook"] = []
    [start] = [each for each in content["nodes"].values() if each["resource_type"] == "operation"]
    start["raw_code"] = "{{ load() }}"
    with pytest.raises(UnknownStateError, match="a hook"):
        BuildReads(content, NAMES).require_nothing_else()


def test_sql_that_calls_a_function_of_the_database_is_always_built(project):
    builds = LastBuild(project.settings, NAMES)
    assert builds.unneeded()
    project.query("create function raw_data.amount(text) returns text language sql as 'select $1'")
    assert builds.unneeded() == ""
    project.query("drop function raw_data.amount")
    project.query(
        """create function raw_data."AMOUNT"(text) returns text language sql as 'select $1'"""
    )
    assert builds.unneeded() == ""
    project.query("""drop function raw_data."AMOUNT"(text)""")


def test_no_build_takes_tables_as_they_are_unless_they_are_of_other_sql(project):
    project.query("update raw_data.readings set amount = 0.7 where user_id = 4")
    assert built(project, no_build=True) == "--no-build"
    path = project.root / SPINE
    text = path.read_text()
    path.write_text(text.replace("0.5", "0.6"))
    try:
        with pytest.raises(RunnerError, match="--no-build: the dbt project changed since"):
            built(project, no_build=True)
    finally:
        path.write_text(text)
    LastBuild(project.settings, NAMES).begin()  # it may have come half the way
    with pytest.raises(RunnerError, match="--no-build: the last build did not succeed"):
        built(project, no_build=True)

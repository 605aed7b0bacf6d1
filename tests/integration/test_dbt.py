"""dbt runs as a subprocess; its progress counts, and its failures are told in a line."""

import dataclasses
import json
import re
import subprocess

import pytest

from runner.commands.builds.built_sql import build_sql
from runner.commands.builds.exposures import write_exposures
from runner.commands.training.checking import recipe_errors
from runner.errors import RunnerError
from runner.project import dbt
from runner.project.freshness import GENERATED_MARK
from runner.project.manifest import load_manifest
from runner.project.postgres_names import RESERVED
from runner.recipes.recipe import load_recipe
from tests.e2e.conftest import Project, environment
from tests.small_project import REPOSITORY, write_project

READINGS = """
create schema raw_data;
create table raw_data.readings as
select
    cast(n as bigint) as user_id, timestamptz '2025-01-01' as event_timestamp,
    cast(n as double precision) / 10 as amount, cast('x' as text) as text
from generate_series(1, 9) as n
"""
SPINE = "models/spine_data/spine_high.sql"
MART = "models/feature_mart/reading.yml"


@pytest.fixture(scope="module")
def project(tmp_path_factory, module_database, redis_server):
    """The small project, with nine rows in its raw table."""
    root = write_project(tmp_path_factory.mktemp("dbt"))
    project = Project(root, environment(module_database, redis_server))
    project.query(READINGS)
    return project


@pytest.fixture
def told(project):
    """Give a function that puts a text into a file, builds, puts it back; returns the error."""

    def build(name, old, new):
        path = project.root / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        try:
            with pytest.raises(RunnerError) as caught:
                dbt.build(project.settings, [], lambda _: None)
        finally:
            path.write_text(text)
        return caught.value

    return build


def test_progress_counts_dbt_models_and_tests(project):
    lines = []
    dbt.build(project.settings, [], lines.append)
    assert [line for line in lines if not re.fullmatch(r"\d/4 \w+", line)] == []
    assert {line.partition(" ")[2] for line in lines} >= {
        "spine_high",
        "not_null_reading_user_id",
    }


def test_a_database_error_is_its_message_and_where_the_sql_is(project, told):
    error = told("models/staging/stg_readings.sql", "amount,", "amounts,")
    assert re.fullmatch(
        r'models/staging/stg_readings\.sql: dbt model stg_readings: column "amounts" does not '
        r"exist; LINE \d+: .*amounts.*; HINT: Perhaps you meant .*",
        error.message,
    )
    assert "\n" not in error.message
    command, _, where = error.hint.partition("; its SQL is in ")
    assert command == "correct it and run `dbt build --select stg_readings --target local`"
    assert "amounts" in (project.root / where).read_text()


UNIT_TEST = """
unit_tests:
  - name: amount_is_kept
    model: reading
    overrides: {macros: {is_incremental: false}}
    given: [{input: ref('stg_readings'), rows: [{user_id: 1, amount: 0.5}]}]
    expect: {rows: [{user_id: 1, amount: 0.5}]}
"""


@pytest.fixture
def unit_test(project):
    """Give the mart a dbt unit test."""
    path = project.root / "models/feature_mart/reading_unit_test.yml"
    path.write_text(UNIT_TEST)
    yield path.relative_to(project.root)
    path.unlink()


def test_a_mistake_in_sql_that_a_unit_test_meets_first_is_told_of_the_sql(told, unit_test):
    error = told("models/feature_mart/reading.sql", "amount from", "amuont from")
    assert error.message.startswith(
        'models/feature_mart/reading.sql: dbt model reading: column "amuont" does not exist; LINE '
    )
    command, _, other = error.hint.partition("; ")
    assert command == "correct it and run `dbt build --select reading --target local`"
    assert other == (
        f"if its SQL is right, correct what {unit_test}: dbt unit test amount_is_kept gives it"
    )


def test_a_unit_test_that_expects_other_rows_is_told_of_the_unit_test(told, unit_test):
    error = told(str(unit_test), "expect: {rows: [{user_id: 1,", "expect: {rows: [{user_id: 2,")
    assert error.message.startswith(f"{unit_test}: dbt unit test amount_is_kept: ")


def test_a_broken_contract_names_the_columns(told):
    error = told(SPINE, "amount > 0.5", "amount")
    assert error.message.startswith(f"{SPINE}: dbt model spine_high: This model has an enforced")
    assert "is_high, " in error.message
    assert "macro" not in error.message


def test_a_failing_dbt_test_says_how_many_rows_and_where_its_sql_is(project, told):
    error = told(MART, "data_tests: [not_null]", "data_tests: [{accepted_values: {values: [1]}}]")
    assert error.message.startswith(f"{MART}: dbt test accepted_values_reading_user_id")
    assert error.message.endswith(": Got 8 results, configured to fail if != 0")
    assert (project.root / error.hint.partition("its SQL is in ")[2]).is_file()


def test_a_failure_before_any_dbt_model_points_to_the_log(project, told):
    error = told(SPINE, "ref('stg_readings')", "ref('nowhere')")
    assert error.message == (
        f"dbt build failed: Model 'model.shop.spine_high' ({SPINE}) depends on a node named "
        "'nowhere' which was not found"
    )
    assert error.hint.endswith("logs/dbt.log has all that dbt said")
    assert (project.root / "logs/dbt.log").is_file()


def test_an_exposure_of_a_dbt_model_that_is_gone_or_disabled_stops_no_bare_dbt(project):
    mart, spine = project.root / MART, project.root / SPINE
    write_exposures(project.settings)
    texts = {path: path.read_text() for path in (mart, mart.with_suffix(".sql"), spine)}
    spine.write_text("{{ config(enabled=false) }}" + texts[spine])
    for path in (mart, mart.with_suffix(".sql")):
        path.unlink()
    try:
        done = project.run("dbt", "parse", "--target", "local")
    finally:
        for path, text in texts.items():
            path.write_text(text)
    assert done.returncode == 0, done.stdout
    exposures = json.loads(project.settings.manifest_path.read_bytes())["exposures"]
    assert set(exposures) == {"exposure.shop.recipe_small", "exposure.shop.endpoint_small"}


OLD_EXPOSURES = f"""\
{GENERATED_MARK} from recipes/ and MLflow's registry
exposures:
  - {{name: recipe_x, type: ml, owner: {{name: x}}, depends_on: ["ref('nowhere')"]}}
"""


def test_an_exposure_of_an_earlier_version_whose_dbt_model_is_gone_is_removed(project):
    path = project.root / "models/_generated/exposures.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(OLD_EXPOSURES)
    dbt.run(project.settings, ["parse"], lambda _: None)
    assert not path.exists()


def test_a_file_that_somebody_else_wrote_there_is_not_removed(project):
    path = project.root / "models/_generated/exposures.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(OLD_EXPOSURES.partition("\n")[2])
    try:
        with pytest.raises(RunnerError, match="nowhere"):
            dbt.run(project.settings, ["parse"], lambda _: None)
        assert path.exists()
    finally:
        path.unlink()


def test_reserved_words_are_those_of_the_server(project):
    query = "select word from pg_get_keywords() where catcode in ('R', 'T')"
    words = {word for (word,) in project.query(query)}
    assert words <= RESERVED
    assert len(RESERVED - words) <= 2  # of newer versions


DAY = "select date_trunc('day', timestamptz '2026-05-01 02:00+00') as day"


@pytest.fixture
def day(project):
    """Give a dbt model whose value depends on the session's zone, in a server of another zone."""
    path = project.root / "models/staging/day.sql"
    path.write_text("{{ config(materialized='table') }}" + DAY)
    database = project.settings.postgres.database
    project.query(f"alter database {database} set timezone = 'America/New_York'")
    yield lambda: project.query("select day at time zone 'UTC' from staging.day")[0][0].hour
    project.query(f"alter database {database} reset timezone")
    path.unlink()


def test_dbt_computes_days_of_utc_whatever_the_server_and_the_environment_say(project, day):
    settings = dataclasses.replace(
        project.settings, env={**project.settings.env, "PGTZ": "Asia/Tokyo"}
    )
    dbt.run(settings, ["run", "--select", "day"], lambda _: None)
    assert day() == 0


def test_so_does_a_dbt_by_itself_with_the_hook_of_the_project(project, day):
    hook = REPOSITORY / "runner/skeleton/macros/session_in_utc.sql"
    (project.root / "macros" / hook.name).write_text(hook.read_text())
    file = project.root / "dbt_project.yml"
    before = file.read_text()
    file.write_text(
        before.replace("  shop:\n", "  shop:\n    +pre-hook: '{{ session_in_utc() }}'\n")
    )
    command = [dbt.find_program("dbt"), "run", "--select", "day", "--target", "local"]
    subprocess.run(command, cwd=project.root, env=project.settings.env, check=True)
    file.write_text(before)
    assert day() == 0


def test_a_project_without_profiles_is_told_as_such(project, tmp_path):
    path = project.root / "profiles.yml"
    text = path.read_text()
    path.unlink()
    settings = dataclasses.replace(
        project.settings, env={**project.settings.env, "HOME": str(tmp_path)}
    )
    try:
        with pytest.raises(RunnerError) as caught:
            dbt.run(settings, ["parse"], lambda _: None)
    finally:
        path.write_text(text)
    assert caught.value.message == f"{path}: no such file, and dbt has no other profile"


def test_yaml_without_its_sql_is_told_as_such(project, unit_test):
    sql, recipe = project.root / "models/feature_mart/reading.sql", project.root / "recipes"
    text = sql.read_text()
    sql.unlink()
    try:
        with pytest.raises(RunnerError) as caught:
            dbt.run(project.settings, ["parse"], lambda _: None)
        (project.root / unit_test).rename(project.root / "unit_test.yml")
        dbt.run(project.settings, ["parse"], lambda _: None)
        manifest = load_manifest(project.settings.manifest_path)
        (told,) = recipe_errors(recipe / "small.yaml", manifest)
    finally:
        sql.write_text(text)
        (project.root / "unit_test.yml").rename(project.root / unit_test)
    assert caught.value.message == (
        f"{unit_test} describes the dbt model reading, and there is no reading.sql"
    )
    assert told.message.endswith(
        f"features[0]: {MART}:3 describes reading, and there is no reading.sql"
    )


VERSIONED = """
    latest_version: 1
    versions: [{v: 1, defined_in: reading, config: {alias: reading}}]
"""


def test_a_mart_is_built_whose_versions_left_its_yaml_since_dbt_last_read_it(project):
    mart, described = (project.root / MART).with_suffix(".sql"), project.root / MART
    sql, yaml = mart.read_text(), described.read_text()
    # After other tests' changes dbt's partial parser may forget the columns with the versions.
    (project.root / "target" / "partial_parse.msgpack").unlink(missing_ok=True)
    dbt.build(project.settings, [], lambda _: None, full_refresh=True)
    described.write_text(yaml + VERSIONED)
    dbt.run(project.settings, ["parse"], lambda _: None)
    described.write_text(yaml)
    mart.write_text("select user_id, event_timestamp, 7.0::float as amount from raw_data.readings")
    try:
        build_sql(project.settings, load_recipe(project.root / "recipes" / "small.yaml"))
        assert project.query("select max(amount) from feature_mart.reading") == [(7,)]
    finally:
        mart.write_text(sql)

"""Lineage through everything that dbt can make of a file, as the real dbt compiles it."""

import json

import psycopg
import pytest

from runner.commands.reading.docs import annotate
from runner.commands.reading.lineage import compiled_lineage, find_column
from runner.errors import RunnerError
from runner.lineage.lineage_graph import LineageColumn
from runner.project import dbt
from runner.project.compiled import up_to_date_models
from runner.settings import read_settings
from tests.conftest import postgres_env
from tests.small_project import write_project

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

FILES = {
    "seeds/rates.csv": "user_id,rate\n1,0.5\n",
    "snapshots/kept.sql": """
{% snapshot kept %}
{{ config(unique_key='user_id', strategy='timestamp', updated_at='event_timestamp') }}
select * from {{ source('shop', 'readings') }}
{% endsnapshot %}
""",
    "models/staging/between.sql": """
{{ config(materialized='ephemeral') }}
select user_id, amount * 2 as doubled from {{ ref('stg_readings') }}
""",
    "models/staging/level_v1.sql": "select user_id, 1 as level from {{ ref('between') }}",
    "models/staging/level_v2.sql": "select user_id, doubled as level from {{ ref('between') }}",
    "models/staging/level.yml": """
models:
  - name: level
    latest_version: 2
    columns: [{name: Level, description: How high.}]
    versions: [{v: 1}, {v: 2}]
""",
    "models/staging/top.sql": """
select level.level, kept.dbt_valid_from as since, rates.rate, old.x
from {{ ref('level') }} as level
join {{ ref('kept') }} as kept using (user_id)
join {{ ref('rates') }} as rates using (user_id)
cross join {{ target.dbname }}.raw_data.old as old
""",
    "models/staging/off.sql": "{{ config(enabled=false) }} select 1 as x",
    "models/staging/retired.yml": """
sources:
  - name: retired
    schema: raw_data
    tables: [{name: old, config: {enabled: false}}]
""",
}


@pytest.fixture(scope="module")
def settings(module_database, redis_server, tmp_path_factory):
    """The small project with more of what dbt can, on servers that hold its raw tables."""
    root = write_project(tmp_path_factory.mktemp("lineage"))
    for name, text in FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    with psycopg.connect(**module_database.conninfo, autocommit=True) as connection:
        connection.execute("create schema raw_data")
        connection.execute("create table raw_data.old (x int)")
    address = {
        **postgres_env(module_database),
        "REDIS_URL": redis_server.url,
        "MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in address.items():
            patch.setenv(name, value)
        yield read_settings("local", root)


@pytest.fixture(scope="module")
def lineage(settings):
    found, _ = compiled_lineage(settings, lambda _: None)
    return found


def test_an_ephemeral_dbt_model_and_a_version_are_steps_of_the_way(lineage):
    assert lineage.parents[LineageColumn("top", "level")] == (LineageColumn("level_v2", "level"),)
    assert lineage.parents[LineageColumn("level_v2", "level")] == (
        LineageColumn("between", "doubled"),
    )
    assert lineage.raw_columns(LineageColumn("top", "level")) == ["raw_data.readings.amount"]
    below = lineage.downstream(LineageColumn("between", "doubled"))
    assert set(map(str, below[1:])) == {"level_v2.level", "top.level"}


@pytest.mark.parametrize(
    ("asked", "found"), [("level.v1.level", "level.level"), ("level.v2:level", "level_v2.level")]
)
def test_a_version_is_asked_for_as_in_dbt(lineage, asked, found):
    assert str(find_column(lineage, asked)) == found


def test_a_snapshot_tells_where_its_times_come_from(lineage):
    assert lineage.parents[LineageColumn("top", "since")] == (
        LineageColumn("kept", "dbt_valid_from"),
    )
    assert lineage.raw_columns(LineageColumn("top", "since")) == [
        "raw_data.readings.event_timestamp"
    ]


def test_a_seed_is_raw(lineage):
    [rate] = lineage.raw_columns(LineageColumn("top", "rate"))
    assert rate.endswith(".rates.rate")


def test_a_disabled_source_that_is_read_all_the_same_is_told(lineage):
    assert lineage.gaps(LineageColumn("top", "x")) == {
        "raw_data.old.x": "raw_data.old is disabled in dbt"
    }
    assert lineage.disabled == {"raw_data.old", "off"}


def test_a_column_is_described_whichever_version_and_capitals(settings, lineage):
    manifest = json.loads(settings.manifest_path.read_bytes())
    annotate(manifest, lineage)
    [described] = manifest["nodes"]["model.shop.level.v2"]["columns"].values()
    assert described["description"] == "How high.\n\nFrom `raw_data.readings.amount`."


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("off.x", "off is disabled in dbt"),
        ("off", "off is disabled in dbt"),
        ("top", "top is a table, not a column"),
        ("levl.v2.level", "no column 'levl.v2.level' (did you mean 'level_v2.level'?)"),
        ("between.double", "between has no column 'double' (did you mean 'doubled'?)"),
        ("kept.amuont", "no dbt model or YAML names a column 'amuont' of kept"),
    ],
)
def test_what_is_not_there_is_told_with_the_nearest(lineage, what, told):
    with pytest.raises(RunnerError) as refused:
        find_column(lineage, what)
    assert refused.value.message.startswith(told)


def test_a_dbt_model_that_needs_a_disabled_one_is_dbts_error(settings):
    path = settings.root / "models/staging/broken.sql"
    path.write_text("select x from {{ ref('off') }}")
    try:
        with pytest.raises(RunnerError, match=r"(?s)dbt compile .* 'off' which is disabled"):
            compiled_lineage(settings, lambda _: None)
    finally:
        path.unlink()


@pytest.fixture
def dbt_runs(monkeypatch):
    """The arguments of every dbt that is started."""
    started, run = [], dbt.run

    def counted(settings, arguments, progress):
        started.append(arguments[0])
        return run(settings, arguments, progress)

    monkeypatch.setattr(dbt, "run", counted)
    return started


def test_dbt_compiles_for_lineage_only_what_changed(settings, dbt_runs):
    first, _ = compiled_lineage(settings, lambda _: None)
    dbt_runs.clear()
    assert compiled_lineage(settings, lambda _: None)[0] == first
    assert dbt_runs == []
    path = settings.root / "models/staging/another.sql"
    path.write_text("select amount * 2 as twice from {{ ref('between') }} as b")
    try:
        changed, _ = compiled_lineage(settings, lambda _: None)
    finally:
        path.unlink()
    assert dbt_runs == ["compile"]
    assert {c.relation for c in changed.parents} - {c.relation for c in first.parents} == {
        "another"
    }
    dbt_runs.clear()
    assert compiled_lineage(settings, lambda _: None)[0] == first
    assert dbt_runs == ["compile"]


def test_compiled_sql_is_given_again_until_a_macro_may_ask_the_warehouse(settings, dbt_runs):
    def sql(name):
        return {model.name: model.sql for model in up_to_date_models(settings, [name], print)}

    first = sql("top")
    dbt_runs.clear()
    assert sql("top") == first
    assert dbt_runs == []
    path = settings.root / "models/staging/now.sql"
    path.write_text("select '{{ run_started_at }}' as x")
    try:
        sql("now")
        sql("now")
    finally:
        path.unlink()
    assert dbt_runs == ["compile", "compile"]

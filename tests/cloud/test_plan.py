"""`runner plan` on BigQuery, the limit of bytes billed, and what a run records of its bill."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from google.cloud import bigquery
from mlflow import MlflowClient
from typer.testing import CliRunner

from runner import cli
from runner.bytes_billed import LIMIT, Billed
from runner.commands.builds.built_sql import build_sql
from runner.commands.training.plan import plan, require_affordable
from runner.commands.training.plan_steps import Plan
from runner.commands.training.training import train
from runner.errors import RunnerError
from runner.feature_store.store import open_store, point_in_time_table, recipe_features
from runner.project.manifest import load_manifest
from runner.recipes.recipe import load_recipe
from runner.settings import Settings, load_settings
from runner.warehouse.bigquery.mart import BigQueryMart
from tests.cloud.bigquery_stores import load_arrow
from tests.demanded_limit import demanded_limit
from tests.emulators.bigquery import Emulator
from tests.small_project import readings, write_project

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

# 600 rows: user_id, event_timestamp and amount of 8 bytes, is_high of 1, a text of 10.
ROWS, NUMBER, FLAG = 600, 8, 1
SHIPPED = Path(__file__).resolve().parents[2] / "deploy"
LEAST = 10 * 2**20  # what each table that a query reads is billed for at least


@pytest.fixture(scope="module")
def project(
    client: bigquery.Client, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The small project with nothing but its raw table in BigQuery."""
    root = write_project(tmp_path_factory.mktemp("small"))
    client.create_dataset("raw_events", exists_ok=True)
    load_arrow(client, "raw_events.readings", readings())
    os.environ.update(
        emulator.environment,
        BIGQUERY_LOCATION="US",
        DBT_SCHEMA_PREFIX="plan_",  # datasets of these tests' own
        FEAST_REGISTRY=str(root / "registry.db"),
        MLFLOW_TRACKING_URI=f"sqlite:///{root / 'mlflow.db'}",
        REDIS_URL="redis://127.0.0.1:1/0",
    )
    return root


@pytest.fixture(scope="module")
def recipe(project: Path) -> Path:
    return project / "recipes" / "small.yaml"


@pytest.fixture
def settings(project: Path) -> Settings:
    return load_settings("cloud", project)


@pytest.fixture(scope="module")
def unbuilt(client: bigquery.Client, project: Path, recipe: Path) -> Plan:
    """The plan before anything is built."""
    before = _tables(client)
    planned = plan(load_settings("cloud", project), recipe)
    assert _tables(client) == before  # planning writes nothing
    return planned


def _tables(client: bigquery.Client) -> set[str]:
    """Return every dataset and table there is."""
    datasets = list(client.list_datasets())
    tables = (table for dataset in datasets for table in client.list_tables(dataset.reference))
    return {dataset.dataset_id for dataset in datasets} | {table.full_table_id for table in tables}


@pytest.fixture(scope="module")
def run_id(unbuilt: Plan, project: Path, recipe: Path) -> str:
    """A training after the first plan."""
    return train(load_settings("cloud", project), recipe).run_id


@pytest.fixture(scope="module")
def built(run_id: str, project: Path, recipe: Path) -> Plan:
    return plan(load_settings("cloud", project), recipe)


def test_what_reads_an_unbuilt_table_is_not_guessed(unbuilt: Plan) -> None:
    told = {(step.kind, step.name): (step.bills, step.problem) for step in unbuilt.steps}
    assert told == {
        ("dbt model", "stg_readings"): ((Billed(0, 0),), ""),
        ("dbt model", "spine_high"): ((), "not built yet: stg_readings"),
        ("dbt model", "reading"): ((), "not built yet: stg_readings"),
        ("dbt tests", "reading"): ((), "not built yet: reading"),
        ("split", "spine_high"): ((), "not built yet: spine_high"),
        ("duplicates", "reading"): ((), "not built yet: reading"),
        ("join", "spine_high"): ((), "not built yet: spine_high, reading"),
        ("materialize", "reading"): ((), "not built yet: reading"),
        ("sweep", "reading"): ((), "not built yet: reading"),
    }
    assert unbuilt.hint.startswith("`dbt run --select stg_readings --target cloud` creates")


def test_a_budget_is_not_granted_to_what_is_not_known(unbuilt: Plan) -> None:
    require_affordable(unbuilt, None)
    with pytest.raises(RunnerError) as refused:
        require_affordable(unbuilt, 1000)
    assert refused.value.message == (
        "8 of 9 steps cannot be estimated, so nobody can say that they cost no more than "
        "--max-cost 1000; the first is dbt model spine_high: not built yet: stg_readings"
    )
    assert refused.value.hint == unbuilt.hint


def test_every_step_has_its_bytes_once_all_is_built(built: Plan) -> None:
    told = {(step.kind, step.name): (step.rows, step.bills) for step in built.steps}
    mart, spine = ROWS * 3 * NUMBER, ROWS * (2 * NUMBER + FLAG)
    # A view: defined, not read. Where it is read, it is no table of its own.
    assert told["dbt model", "stg_readings"] == (None, (Billed(0, 0),))
    assert told["dbt model", "spine_high"][0] == ROWS
    assert [bill.bytes_billed for bill in told["dbt model", "spine_high"][1]] == [LEAST]
    # An incremental dbt model reads the source and its own table, then merges into that.
    reads, merge = told["dbt model", "reading"][1]
    assert reads.bytes_billed == 2 * LEAST
    assert merge == Billed(mart, LEAST)
    assert told["dbt tests", "reading"][1] == (Billed(ROWS * NUMBER, LEAST),)
    assert told["split", "spine_high"] == (ROWS, (Billed(ROWS * (NUMBER + FLAG), LEAST),))
    assert told["duplicates", "reading"][1] == (Billed(ROWS * 2 * NUMBER, LEAST),)
    assert told["join", "spine_high"] == (ROWS, (Billed(mart + spine, 2 * LEAST),))
    assert told["materialize", "reading"][1] == (Billed(mart, LEAST),)
    # Keys and timestamps, and the table of keys that are looked for.
    assert told["sweep", "reading"] == (ROWS, (Billed(ROWS * 2 * NUMBER, 2 * LEAST),))
    assert not any(step.problem for step in built.steps)
    assert built.hint == ""


def test_no_query_is_billed_for_more_than_what_is_planned(
    built: Plan, client: bigquery.Client
) -> None:
    asked = 0
    for step in built.steps:
        for sql, bill in zip(step.sql, step.bills, strict=True):
            if bill.bytes_billed:
                asked += 1
                uploaded = LEAST if step.kind == "sweep" else 0
                assert demanded_limit(client, sql) == bill.bytes_billed - uploaded
    assert asked == 9  # the merge of an incremental dbt model is one of its own


def test_a_sweep_is_planned_as_if_each_row_of_the_mart_were_stored(
    built: Plan, project: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BigQueryMart, "keys_at_once", 250)
    planned = plan(load_settings("cloud", project), recipe)
    sweeps = [[step for step in p.steps if step.kind == "sweep"] for p in (built, planned)]
    assert sweeps[1][0].bills == sweeps[0][0].bills * 3


def test_a_plan_above_the_budget_names_what_costs_most(built: Plan) -> None:
    join = next(step for step in built.steps if step.kind == "join")
    steps = (replace(join, bills=(Billed(2**40, 2**40),)), *built.steps)
    dear = replace(built, steps=steps, price_per_tib=6.25, limit=None)
    with pytest.raises(RunnerError) as refused:
        require_affordable(dear, 5)
    assert refused.value.message == (
        f"the plan costs {dear.usd:.6f} USD, more than --max-cost 5; most of it is join "
        "spine_high, billed for 1,099,511,627,776 bytes, 6.250000 USD"
    )
    require_affordable(dear, dear.usd)


def test_a_query_above_the_limit_is_told_before_it_runs(built: Plan) -> None:
    limited = replace(built, limit=LEAST - 1)
    with pytest.raises(RunnerError) as refused:
        require_affordable(limited, None)
    assert refused.value.message == (
        "dbt model spine_high would be billed for 10,485,760 bytes, more than "
        f"{LIMIT}={LEAST - 1} allows"
    )
    require_affordable(replace(built, limit=2 * LEAST), None)


def test_the_command_prints_the_plan_and_refuses_it(
    built: Plan, project: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    arguments = ["plan", str(recipe), "--target", "cloud", "--json", "--max-cost", "0"]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 1
    printed = json.loads(done.stdout)
    assert printed["complete"]
    assert printed["total_usd"] == pytest.approx(built.usd)
    join = next(step for step in printed["steps"] if step["kind"] == "join")
    assert join["bytes_billed"] == 2 * LEAST
    assert "`plan_feature_mart`.`reading`" in join["sql"][0]
    assert "more than --max-cost 0.0; most of it is" in done.stderr


def test_a_missing_dataset_of_raw_tables_is_told_with_the_dbt_model_that_reads_it(
    built: Plan, project: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "other-project")
    with pytest.raises(RunnerError) as refused:
        build_sql(load_settings("cloud", project), load_recipe(recipe))
    assert "dbt model stg_readings: " in refused.value.message
    assert "raw_events" in refused.value.message
    assert "dbt build --select stg_readings --target cloud" in refused.value.hint


def test_dbt_names_the_model_that_bigquery_refuses(
    built: Plan, project: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT, "1000")
    with pytest.raises(RunnerError) as refused:
        build_sql(load_settings("cloud", project), load_recipe(recipe))
    assert refused.value.message in {
        f"models/{folder}/{name}.sql: dbt model {name} would be billed for {least:,} bytes, more "
        f"than {LIMIT}=1000 allows"
        for folder, name, least in (
            ("feature_mart", "reading", 2 * LEAST),
            ("spine_data", "spine_high", LEAST),
        )
    }
    assert re.search(rf"set {LIMIT} to (10485760|20971520) or more", refused.value.hint)


def test_the_join_is_named_when_bigquery_refuses_it(
    built: Plan, project: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT, "1000")
    settings = load_settings("cloud", project)
    manifest = load_manifest(settings.manifest_path)
    features = recipe_features(load_recipe(recipe), manifest)
    spine = "select user_id, event_timestamp from plan_spine_data.spine_high"
    with pytest.raises(RunnerError) as refused:
        point_in_time_table(open_store(settings), spine, [one.joined for one in features])
    assert refused.value.message == (
        "the point-in-time join of reading would be billed for 20,971,520 bytes, more than "
        f"{LIMIT}=1000 allows"
    )


def test_a_run_records_what_was_billed(run_id: str, settings: Settings) -> None:
    metrics = MlflowClient(settings.mlflow_tracking_uri).get_run(run_id).data.metrics
    billed = {k: v for k, v in metrics.items() if k.startswith("bytes_billed.")}
    assert billed == {
        "bytes_billed.dbt.stg_readings": 0,
        "bytes_billed.dbt.reading": LEAST,
        "bytes_billed.dbt.spine_high": LEAST,
        "bytes_billed.split": LEAST,
        "bytes_billed.duplicates.reading": LEAST,
        "bytes_billed.join": 2 * LEAST,
        "bytes_billed.dbt_tests": LEAST,
        "bytes_billed.total": 7 * LEAST,
    }
    read = ROWS * (3 * NUMBER + 2 * NUMBER + FLAG)
    assert metrics["bytes_processed.join"] == read
    assert metrics["bytes_processed.split"] == ROWS * (NUMBER + FLAG)


def test_a_price_must_be_a_number(
    project: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGQUERY_PRICE_PER_TIB", "cheap")
    with pytest.raises(RunnerError, match="BIGQUERY_PRICE_PER_TIB='cheap' is not a price"):
        plan(load_settings("cloud", project), recipe)


def test_a_month_costs_what_the_plan_says_times_the_schedules(
    built: Plan, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = (SHIPPED / "Pulumi.prod.yaml").read_text()
    (project / "deploy").mkdir()
    settings = shipped.replace("recipes/rf.yaml", "recipes/small.yaml")
    (project / "deploy" / "Pulumi.prod.yaml").write_text(settings)
    monkeypatch.chdir(project)
    command = ["cost", "--target", "cloud", "--predictions-per-month", "1000"]
    done = CliRunner().invoke(cli.app, [*command, "--json"])
    assert done.exit_code == 0, done.output
    month = json.loads(done.stdout)
    billed: Counter[str] = Counter()
    for step in built.steps:
        billed[step.kind] += step.bill.bytes_billed
    training = billed["split"] + billed["duplicates"] + billed["join"]
    materialize = billed.total() - training + LEAST  # one mart is asked
    refresh = materialize + 2 * LEAST  # two tables are collected
    train = billed.total() - billed["materialize"] - billed["sweep"]
    hourly, daily, weekly = 730, 365 / 12, 365 / 84
    total = hourly * refresh + daily * materialize + weekly * train
    total += (daily + weekly) * billed["join"]  # audits and monitoring
    [bigquery] = [part for part in month["parts"] if part["name"] == "BigQuery"]
    assert bigquery["how"].startswith(f"{total / 2**40:.3f} TiB queried")
    assert month["complete"] is True
    assert month["total_usd"] == pytest.approx(sum(part["usd"] for part in month["parts"]))
    table = CliRunner().invoke(cli.app, [*command, "--max-cost", "1"])
    assert table.exit_code == 1
    assert "Memorystore BASIC, 1 GB" in table.stdout
    assert "70.00" in table.stdout  # the reference design's

"""On BigQuery too a build is skipped only if it would change nothing."""

from __future__ import annotations

import os

import pytest
from google.cloud import bigquery

from runner.commands.builds.built_sql import build_sql, require_fit
from runner.commands.builds.last_build import LastBuild
from runner.recipes.recipe import load_recipe
from runner.settings import Settings, load_settings
from runner.warehouse.bigquery.table_states import bigquery_states
from runner.warehouse.table_state import UnknownStateError
from tests.asked_project import baskets, users, write_asked_project
from tests.cloud.bigquery_stores import load_arrow
from tests.emulators.bigquery import Emulator

pytestmark = [pytest.mark.cloud, pytest.mark.servers, pytest.mark.timeout(600)]

NAMES = ["spine_basket", "user_habits"]
SHOPPERS = "`test-project`.`raw_events`.`shoppers`"
INSERT = f"insert into {SHOPPERS} select * from {SHOPPERS} limit 1"


@pytest.fixture(scope="module")
def settings(
    client: bigquery.Client, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """The project, built once on BigQuery."""
    root = write_asked_project(tmp_path_factory.mktemp("left-out"))
    client.create_dataset("raw_events", exists_ok=True)
    load_arrow(client, "raw_events.shoppers", users())
    load_arrow(client, "raw_events.baskets", baskets())
    os.environ.update(
        emulator.environment,
        BIGQUERY_LOCATION="US",
        DBT_SCHEMA_PREFIX="left_out_",
        FEAST_REGISTRY=str(root / "registry.db"),
        MLFLOW_TRACKING_URI=f"sqlite:///{root / 'mlflow.db'}",
        REDIS_URL="redis://127.0.0.1:1/0",
    )
    settings = load_settings("cloud", root)
    assert built(settings) == ""
    return settings


def built(settings: Settings) -> str:
    """Build the recipe's SQL; return why dbt was left out, empty if it was not."""
    recipe = load_recipe(settings.root / "recipes" / "basket.yaml")
    require_fit(settings, recipe)
    return build_sql(settings, recipe).left_out


def test_what_did_not_change_is_not_built_again(settings: Settings) -> None:
    assert built(settings).startswith("nothing changed since the build of 20")


def test_edited_sql_is_built(settings: Settings) -> None:
    path = settings.root / "models" / "feature_mart" / "user_habits.sql"
    text = path.read_text()
    path.write_text(text.replace("mean_usd", "mean_usd + 1 as mean_usd"))
    assert LastBuild(settings, NAMES).unneeded() == ""
    path.write_text(text)
    assert LastBuild(settings, NAMES).unneeded()


@pytest.mark.parametrize(
    "change",
    [
        INSERT,
        f"update {SHOPPERS} set orders = orders + 1 where user_id = 3",
        f"create or replace table {SHOPPERS} as select * from {SHOPPERS}",
        "delete from left_out_feature_mart.user_habits where user_id = 3",
    ],
)
def test_whatever_changes_a_source_or_a_built_table_is_built(
    settings: Settings, client: bigquery.Client, change: str
) -> None:
    builds = LastBuild(settings, NAMES)
    builds.begin()
    builds.end()
    assert builds.unneeded()
    client.query(change).result()
    assert builds.unneeded() == ""


def test_streamed_rows_are_seen_although_the_metadata_is_late(
    settings: Settings, client: bigquery.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = client.get_table("raw_events.shoppers")
    monkeypatch.setattr(bigquery.Client, "get_table", lambda *_: late)
    before = bigquery_states(settings, [SHOPPERS], [], "")
    assert bigquery_states(settings, [SHOPPERS], [], "") == before
    client.query(INSERT).result()
    assert bigquery_states(settings, [SHOPPERS], [], "") != before


@pytest.mark.parametrize(
    "query",
    [
        "select a.x from `p`.`d`.`a` as a where a.x in (1) and safe.substr('a', 1) = 'a'",
        "select net.host(x), sum(x) over (partition by a.x) from `p`.`d`.`a` as a",
    ],
)
def test_a_query_may_call_functions_of_bigquery(settings: Settings, query: str) -> None:
    assert bigquery_states(settings, [SHOPPERS], [], query)


@pytest.mark.parametrize(
    "query",
    [
        "select `p`.`d`.score(x) from a",
        "select `p.d.score` (x) from a",
        "select d.score(x) from a",
        "select * from my-project.d.score(1)",
        "select * from ml.predict(model d.m, table d.a)",
    ],
)
def test_a_query_that_calls_a_function_of_a_dataset_is_always_built(
    settings: Settings, query: str
) -> None:
    with pytest.raises(UnknownStateError, match="a function of a dataset"):
        bigquery_states(settings, [SHOPPERS], [], query)


def test_a_view_is_known_by_its_sql_and_is_no_source(
    settings: Settings, client: bigquery.Client, dataset: str
) -> None:
    view = f"`{client.project}`.`{dataset}`.`v`"
    states = []
    for number in (1, 1, 2):
        client.query(f"create or replace view {view} as select {number} as n").result()
        states.append(bigquery_states(settings, [], [view], ""))
    assert states[0] == states[1] != states[2]
    for tables, views in (([view], []), ([], [SHOPPERS]), (["`a`.`b`.`c`"], [])):
        with pytest.raises(UnknownStateError):
            bigquery_states(settings, tables, views, "")

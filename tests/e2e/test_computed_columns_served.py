"""What a recipe computes is the same in training, batch and HTTP, and what plain Python says."""

import json
from datetime import UTC, datetime, timedelta

import httpx
import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contract.scoring import load_model
from tests.asked_project import (
    COMPUTED,
    as_batch,
    asked_at,
    baskets,
    expected,
    requests,
    shown,
    users,
    write_asked_project,
)
from tests.e2e.conftest import Project, environment, served

RECIPE = "recipes/basket.yaml"


@pytest.fixture(scope="module")
def project(tmp_path_factory, new_database, redis_server):
    """The project, trained, promoted and materialized."""
    root = write_asked_project(tmp_path_factory.mktemp("asked"))
    project = Project(root, environment(new_database(), redis_server))
    project.load("shoppers", users())
    project.load("baskets", baskets())
    project.runner("check", RECIPE)
    project.runner("train", RECIPE)
    project.runner("materialize", RECIPE)
    return project


@pytest.fixture(scope="module")
def recorded(project):
    """The champion's bundle, and the rows that its run recorded."""
    return project.trained("basket")


@pytest.fixture(scope="module")
def api(project):
    with served(project, RECIPE) as api:
        yield api


def test_training_rows_have_what_plain_python_computes(recorded):
    bundle, table = recorded
    assert tuple(column.name for column in bundle.computed) == COMPUTED
    rows = table.to_pylist()
    assert [{name: row[name] for name in COMPUTED} for row in rows] == list(map(expected, rows))
    assert all(any(row[name] is not None for row in rows) for name in COMPUTED)


def test_times_are_no_model_inputs_but_the_days_since_them_are(recorded):
    bundle, _ = recorded
    columns = {name for tensor in bundle.model.inputs for name in tensor.columns}
    assert columns >= {*COMPUTED}
    assert not columns & {"user_habits__last_order_at", "opened_at"}


def test_lineage_of_a_computed_column_is_that_of_what_it_is_computed_from(recorded):
    bundle, _ = recorded
    raw = bundle.lineage["raw_columns"]
    assert raw["basket_vs_usual"] == ["raw_data.baskets.basket_usd", "raw_data.shoppers.mean_usd"]
    assert raw["mood"] == ["raw_data.shoppers.country", "raw_data.shoppers.last_order_at"]
    assert bundle.lineage["computed"]["basket_vs_usual"] == "basket_usd / nullif(mean_usd, 0)"


def test_a_batch_of_the_spine_is_scored_as_the_training_rows(project, recorded):
    bundle, table = recorded
    output = project.root / "spine.parquet"
    project.runner("predict", "basket", "spine_basket", "--output", str(output))
    columns = {name: table[name] for name in (*bundle.row_dtypes, "event_timestamp")}
    scores = load_model(bundle).score(columns).probabilities
    order = [(name, "ascending") for name in ("event_timestamp", "user_id")]
    assert pq.read_table(output).sort_by(order)["probability_1"].to_pylist() == (
        table.append_column("p", pa.array(scores[:, 1])).sort_by(order)["p"].to_pylist()
    )


def test_http_computes_what_a_batch_of_the_same_instant_does(project, api):
    sent = requests(60)
    before = datetime.now(UTC)
    answers = api.post("/predict", {"entity_rows": sent, "include_features": True})["predictions"]
    after = datetime.now(UTC)
    asked = asked_at(answers)
    assert before - timedelta(seconds=1) <= asked <= after
    path, output = project.root / "now.parquet", project.root / "now_scored.parquet"
    pq.write_table(as_batch(sent, asked), path)
    project.runner("predict", "basket", str(path), "--output", str(output))
    assert [answer["probabilities"]["1"] for answer in answers] == pytest.approx(
        pq.read_table(output)["probability_1"].to_pylist(), abs=1e-7
    )
    for values in map(shown, answers):
        assert expected(values | {"event_timestamp": asked}) == {
            name: values[name] for name in COMPUTED
        }
    assert answers[0]["features"]["mood"]["status"] == "computed"


def test_http_explains_as_a_batch_of_the_same_instant_does(project, api):
    sent = requests(8)
    body = {"entity_rows": sent, "include_features": True, "include_explanations": True}
    answers = api.post("/predict", body)["predictions"]
    explained = [answer["explanation"] for answer in answers]
    path, output = project.root / "why.parquet", project.root / "explained.parquet"
    pq.write_table(as_batch(sent, asked_at(answers)), path)
    project.runner("predict", "basket", str(path), "--explain", "--output", str(output))
    rows = pq.read_table(output).to_pylist()
    assert {*COMPUTED} <= explained[0]["contributions"].keys()
    for answer, row in zip(explained, rows, strict=True):
        contributions = {
            name.removeprefix("contribution_"): value
            for name, value in row.items()
            if name.startswith("contribution_")
        }
        assert contributions == pytest.approx(answer["contributions"], abs=1e-7)
        assert row["base_value"] == answer["base_value"]
        assert row["base_value"] + sum(contributions.values()) == pytest.approx(
            row["probability_1"], abs=1e-6
        )
    project.runner("predict", "basket", str(path), "--explain", "--to", "scores.why")
    [(text,)] = project.query("select explanation from scores.why limit 1")
    assert json.loads(text).keys() == {"score", "class", "base_value", "contributions"}


def test_the_api_describes_what_it_computes(api):
    document = httpx.get(f"{api.address}/openapi.json").json()
    text = str(document)
    assert "Computed: basket_usd / nullif(mean_usd, 0)" in text
    model = httpx.get(f"{api.address}/model").json()
    assert [column["name"] for column in model["computed"]] == list(COMPUTED)


def test_audit_finds_the_times_online_as_the_join_gives_them(project):
    printed = project.runner("audit", RECIPE)
    [counts] = [line.split()[1:] for line in printed.splitlines() if "last_order_at" in line]
    assert counts == ["20", "20", "0", "0", "0", "0"]


def test_the_run_is_reproduced(project):
    assert "reproduced" in project.runner("reproduce", "basket@champion")


def test_a_second_training_is_compared_with_the_champion_on_computed_columns(project):
    project.runner("train", RECIPE)
    client = mlflow.MlflowClient(project.settings.mlflow_tracking_uri)
    run = client.get_run(client.get_model_version("basket", "2").run_id)
    assert run.data.metrics["champion_difference"] == 0
    assert run.data.metrics["n_champion_rows"] > 0


def test_a_smoke_test_of_a_recipe_that_asks_the_clock_passes(project, api):
    assert "answers as `runner predict` does" in project.runner(
        "smoke-test", RECIPE, "--url", api.address
    )

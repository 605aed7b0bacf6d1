"""What docs/evaluation.md says, done with its own recipe: trained, reproduced, served.

So is what docs/serving.md says of feature overrides, with the same recipe.
"""

import json
import re
from datetime import timedelta

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss

from runner.modelling.fitted_model import uncalibrated
from runner.modelling.training_data import split_rows
from runner.records.recorded_run import read_run
from tests.e2e.conftest import REPOSITORY, Project, environment, served
from tests.small_project import readings, write_project

PAGE = (REPOSITORY / "docs" / "evaluation.md").read_text()
SERVING_PAGE = (REPOSITORY / "docs" / "serving.md").read_text()
NAME = "category_purchase_calibrated"
RECIPE = "recipes/calibrated.yaml"


@pytest.fixture(scope="module")
def trained(shop):
    """What training the page's recipe prints; the recipe stays for the module."""
    [recipe] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    path = shop.root / RECIPE
    [overrides] = re.findall(r"```yaml\n(feature_overrides.*?)```", SERVING_PAGE, re.DOTALL)
    path.write_text(recipe + overrides)
    yield shop.runner("train", RECIPE)
    path.unlink()


@pytest.fixture(scope="module")
def run(shop, trained):
    mlflow.set_tracking_uri(shop.settings.mlflow_tracking_uri)
    client = mlflow.MlflowClient()
    return client.get_run(client.get_model_version(NAME, "1").run_id)


def test_training_prints_the_threshold_and_where_the_score_is_lowest(trained, run):
    assert f"decision threshold {run.data.metrics['decision_threshold']:.4g}" in trained
    assert "Where neg_log_loss is lowest" in trained
    lines = [line.split()[0] for line in trained.splitlines() if line.strip()]
    assert {"user_demographics:country", "category_id"} <= set(lines)


def test_each_period_has_rows_and_they_are_the_whole_spine(run):
    parts = re.findall(r"`(n_\w+_rows)`", PAGE)
    assert len(parts) == 5
    metrics = run.data.metrics
    assert all(metrics[part] > 0 for part in parts)
    assert sum(metrics[part] for part in parts) == metrics["n_spine_rows"]


def test_calibration_makes_up_for_the_class_weights(run):
    recorded = read_run(mlflow.MlflowClient(), run)
    test = split_rows(
        recorded.recipe, recorded.rows, recorded.inputs, label_window=timedelta(0)
    ).test
    model = mlflow.sklearn.load_model(f"models:/{run.outputs.model_outputs[0].model_id}")
    shares = [each.predict_proba(test.X)[:, 1] for each in (model, uncalibrated(model))]
    off = [abs(share.mean() - test.y.mean()) for share in shares]
    assert off[0] < 0.03 < 0.1 < off[1]
    assert log_loss(test.y, shares[0]) < log_loss(test.y, shares[1])
    assert run.data.metrics["test_neg_log_loss"] == pytest.approx(-log_loss(test.y, shares[0]))


def test_every_slice_is_recorded_and_none_of_its_rows_is_left_out(run):
    text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/slices.md")
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    for name in ("user_demographics:country", "category_id"):
        rows = [int(cells[2].replace(",", "")) for cells in lines if cells[0] == f"| {name}"]
        assert len(rows) > 2
        assert sum(rows) == run.data.metrics["n_test_rows"]


def test_every_plot_that_the_page_lists_for_this_task_is_recorded(run):
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", PAGE, re.MULTILINE)
    of_task = [files for files, task in rows if task != "regression"]
    listed = {f"plots/{name}" for files in of_task for name in re.findall(r"`(\w+\.png)`", files)}
    there = mlflow.MlflowClient().list_artifacts(run.info.run_id, "plots")
    assert {file.path for file in there} == listed


def test_it_is_reproduced_with_its_threshold_to_the_last_digit(shop, run):
    told = shop.runner("reproduce", run.info.run_id)
    assert f"run {run.info.run_id}: reproduced" in told
    threshold = str(run.data.metrics["decision_threshold"])
    [line] = [line for line in told.splitlines() if line.startswith("decision_threshold")]
    assert line.split() == ["decision_threshold", threshold, threshold, "yes"]


def test_http_and_batch_give_the_same_probabilities_and_decide_by_the_threshold(
    shop, run, tmp_path
):
    keys = pd.DataFrame(
        shop.query(
            "select distinct user_id, category_id from spine_data.spine_category_purchase "
            "order by 1, 2 limit 300"
        ),
        columns=["user_id", "category_id"],
    )
    keys.to_csv(tmp_path / "keys.csv", index=False)
    shop.runner("predict", RECIPE, str(tmp_path / "keys.csv"), "-o", str(tmp_path / "p.csv"))
    batch = pd.read_csv(tmp_path / "p.csv")
    threshold = run.data.metrics["decision_threshold"]
    with served(shop, RECIPE) as api:
        rows = api.post("/predict", {"entity_rows": keys.to_dict("records")})["predictions"]
    online = [row["probabilities"]["1"] for row in rows]
    np.testing.assert_allclose(online, batch["probability_1"], atol=1e-6)
    classes = [row["prediction"] for row in rows]
    assert classes == batch["prediction"].tolist()
    assert classes == [int(share >= threshold) for share in online]
    assert 0 < sum(classes) < len(classes)
    assert any(row["prediction"] and row["probabilities"]["1"] < 0.5 for row in rows)


def test_a_request_may_bring_the_features_that_the_recipe_lists(shop, run):
    blocks = re.findall(r"```json\n(.*?)```", SERVING_PAGE, re.DOTALL)
    [request] = [json.loads(block) for block in blocks if "feature_overrides" in block]
    with served(shop, RECIPE) as api:
        given, read = api.post("/predict", request)["predictions"]
        plain = api.post("/predict", {**request, "feature_overrides": None})["predictions"]
    name = "user_activity__orders_7d"
    assert given["features"][name] == {"value": 5, "status": "overridden", "age_seconds": None}
    assert plain[0]["features"][name]["status"] != "overridden"
    assert read["features"][name]["value"] == plain[1]["features"][name]["value"]
    assert read["probabilities"] == plain[1]["probabilities"]


def test_a_number_is_sliced_by_the_bands_that_the_page_cuts_it_into(
    tmp_path, database, redis_server
):
    project = Project(write_project(tmp_path), environment(database, redis_server))
    project.load("readings", readings())
    [bands] = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    [column] = re.findall(r"slices: \[(\w+)\]`", PAGE)
    sql = tmp_path / "models/spine_data/spine_high.sql"
    bands = bands.replace("age_years", "(amount * 100)")
    sql.write_text(sql.read_text().replace(" as is_high", f" as is_high,\n{bands}"))
    with sql.with_suffix(".yml").open("a") as properties:
        properties.write(f"      - {{name: {column}, data_type: string, description: In bands.}}\n")
    with (tmp_path / "recipes/small.yaml").open("a") as recipe:
        recipe.write(f"slices: [{column}]\n")
    printed = project.runner("train", "recipes/small.yaml")
    [line] = [line.split() for line in printed.splitlines() if line.split()[:1] == [column]]
    assert line[1] == "3"
    tracked = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlruns/mlflow.db'}")
    run = tracked.get_run(tracked.get_model_version("small", "1").run_id)
    slices = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/slices.json")["slices"]
    assert {each["value"] for each in slices} == {"under 30", "30 to 49", "50 and over"}
    assert sum(each["rows"] for each in slices) == run.data.metrics["n_test_rows"]

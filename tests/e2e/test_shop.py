"""From recipe to prediction, with the real commands on real servers."""

import hashlib
import json
import re
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from urllib.request import urlopen

import mlflow
import mlflow.sklearn
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from contract.bundle_reader import read_bundle
from contract.model_registry import open_source
from runner.commands.builds.built_sql import build_sql
from runner.feature_store.store import open_store, point_in_time_table, recipe_features
from runner.modelling.model_inputs import model_inputs
from runner.project.manifest import load_manifest
from runner.recipes.recipe import load_recipe
from tests import warm
from tests.conftest import free_port
from tests.e2e.conftest import REPOSITORY
from tests.http_process import wait_for_http

README = (REPOSITORY / "README.md").read_text()


@pytest.fixture(scope="session")
def champion(shop):
    """The champion's registry entry and a copy of its bundle's serving.json."""
    source = open_source(
        "models:/category_purchase_rf@champion", shop.settings.mlflow_tracking_uri, shop.env
    )
    version = source.resolve()
    with source.bundle(version) as folder:
        return version, folder, read_bundle(folder, version.bundle_sha256)


@pytest.fixture(scope="session")
def run(shop, champion):
    """The champion's MLflow run."""
    mlflow.set_tracking_uri(shop.settings.mlflow_tracking_uri)
    return mlflow.MlflowClient().get_run(champion[2].run_id)


def artifact(run, name):
    return Path(run.info.artifact_uri.removeprefix("file://")) / name


def test_the_run_holds_what_another_training_needs(shop, run):
    for name in (
        "recipe.yaml",
        "environment.json",
        "sql/digests.json",
        "sql/spine_category_purchase.sql",
        "sql/user_activity.sql",
        "dataset/training_rows.parquet",
        "plots/roc.png",
        "plots/precision_recall.png",
        "plots/calibration.png",
        "plots/scores.png",
        "plots/confusion_matrix.png",
        "plots/importance.png",
        "report.html",
        "serving_bundle/serving.json",
        "serving_bundle/model.onnx",
    ):
        assert artifact(run, name).stat().st_size > 100, name
    assert artifact(run, "recipe.yaml").read_text() == (shop.root / "recipes/rf.yaml").read_text()
    assert run.info.status == "FINISHED"
    assert run.data.tags["gate"] == "passed"
    assert run.data.tags["dataset_sha256"]
    low, high = (run.data.metrics[f"test_roc_auc_{end}"] for end in ("low", "high"))
    assert 0 < high - low < 0.2
    assert low < run.data.metrics["test_roc_auc"] < high
    assert run.data.params["estimator.n_estimators"]


def test_as_many_training_rows_as_spine_rows(shop, run):
    rows = pq.read_table(artifact(run, "dataset/training_rows.parquet"))
    [(in_spine,)] = shop.query("select count(*) from spine_data.spine_category_purchase")
    assert rows.num_rows == in_spine == run.data.metrics["n_spine_rows"]
    parts = ("n_train_rows", "n_test_rows", "n_embargoed_rows")
    assert sum(run.data.metrics[part] for part in parts) == in_spine


def test_the_version_points_to_an_intact_bundle(champion):
    version, folder, bundle = champion
    assert version.version == "1"
    assert hashlib.sha256((folder / "serving.json").read_bytes()).hexdigest() == bundle.digest
    assert bundle.model.format == "onnx"
    assert [key.name for key in bundle.entity_keys] == ["user_id", "category_id"]


def test_the_logged_pipeline_predicts_raw_features_as_the_bundle_does(shop, run, tmp_path):
    pipeline = mlflow.sklearn.load_model(f"models:/{run.outputs.model_outputs[0].model_id}")
    shop.runner(
        "predict", "recipes/rf.yaml", "spine_category_purchase", "-o", str(tmp_path / "p.parquet")
    )
    predicted = pd.read_parquet(tmp_path / "p.parquet")
    recipe = load_recipe(shop.root / "recipes/rf.yaml")
    features = recipe_features(recipe, load_manifest(shop.settings.manifest_path))
    rows = pq.read_table(artifact(run, "dataset/training_rows.parquet"))
    expected = pipeline.predict_proba(model_inputs(rows, features))[:, 1]
    assert len(predicted) == rows.num_rows
    assert predicted["user_id"].tolist() == rows["user_id"].to_pylist()
    np.testing.assert_allclose(predicted["probability_1"], expected, atol=1e-5)


def test_an_http_prediction_equals_the_batch_prediction_of_the_same_instant(
    shop, serving, tmp_path
):
    keys = pd.DataFrame(
        shop.query(
            "select distinct user_id, category_id from spine_data.spine_category_purchase "
            "order by 1, 2 limit 200"
        ),
        columns=["user_id", "category_id"],
    )
    keys.loc[len(keys)] = [999_999_999, 1]
    keys.to_csv(tmp_path / "keys.csv", index=False)
    done = shop.run(
        *("runner", "predict", "recipes/rf.yaml"),
        *(str(tmp_path / "keys.csv"), "-o", str(tmp_path / "p.csv")),
    )
    told = " ".join(done.stderr.split())
    assert f"1 of {len(keys):,} rows: nothing in user_demographics, user_activity" in told
    batch = pd.read_csv(tmp_path / "p.csv")
    answer = serving.post("/predict", {"entity_rows": keys.to_dict("records")})
    online = [row["probabilities"]["1"] for row in answer["predictions"]]
    np.testing.assert_allclose(online, batch["probability_1"], atol=1e-6)
    assert [row["prediction"] for row in answer["predictions"]] == batch["prediction"].tolist()
    assert answer["model"] == {"name": "category_purchase_rf", "version": "1"}


def test_online_features_equal_point_in_time_features_of_now(shop, serving):
    recipe = load_recipe(shop.root / "recipes/rf.yaml")
    features = recipe_features(recipe, load_manifest(shop.settings.manifest_path))
    [row] = shop.query(
        "select user_id, category_id from feature_mart.user_category_affinity "
        "order by event_timestamp desc, 1, 2 limit 1"
    )
    keys = dict(zip(("user_id", "category_id"), row, strict=True))
    body = {"entity_rows": [keys], "include_features": True}
    [answered] = serving.post("/predict", body)["predictions"]
    entity_df = pd.DataFrame([keys | {"event_timestamp": pd.Timestamp.now("UTC")}])
    joined = [feature.joined for feature in features]
    offline = point_in_time_table(open_store(shop.settings), entity_df, joined).to_pylist()[0]
    online = {name: feature["value"] for name, feature in answered["features"].items()}
    assert online == {feature.column: offline[feature.column] for feature in features}


@pytest.fixture(scope="session")
def trained_again(shop, run):
    """The second training of the champion's recipe, as it ended."""
    done = shop.run("runner", "train", "recipes/rf.yaml")
    assert done.returncode == 0, done.stderr
    return done


def block_after(words):
    """Return the README's first console block after these words."""
    return re.search(rf"{words}.*?```console\n(.*?)```", README, re.DOTALL)[1]


def test_the_readme_shows_what_the_commands_of_the_demo_print(shop, trained_again):
    steps, asked = block_after("part of what it prints").split("…\nPOST")
    step = re.compile(r"^✓ (?:(?!  ).)+  ", re.MULTILINE)
    assert step.findall(steps) == step.findall(trained_again.stderr)
    assert all(re.search(r"  \(\d+\.\d s\)$", line) for line in steps.splitlines())
    done = shop.run("python", "-m", "examples.shop.ask", "recipes/rf.yaml")
    printed = [*done.stderr.splitlines(), *done.stdout.splitlines()]
    for line in f"POST{asked}".splitlines():
        assert without_numbers(line) in map(without_numbers, printed)


def test_a_build_that_would_change_nothing_is_left_out(shop, run):
    recipe = load_recipe(shop.root / "recipes/rf.yaml")
    build_sql(shop.settings, recipe)
    assert build_sql(shop.settings, recipe).left_out.startswith("nothing changed since the build")


def test_predictions_in_a_table_are_those_of_a_file_however_often(shop, run, tmp_path):
    asked = ("category_purchase_rf/1", "spine_category_purchase")
    shop.runner("predict", *asked, "-o", str(tmp_path / "p.parquet"))
    for _ in range(2):
        said = shop.runner("predict", *asked, "--to", "scores.purchase")
        assert said.endswith("predictions of category_purchase_rf version 1 in scores.purchase\n")
    key = ["user_id", "category_id", "event_timestamp"]
    wanted = pd.read_parquet(tmp_path / "p.parquet").sort_values(key)
    found = shop.query(
        "select prediction, probability_1::float8 from scores.purchase where model_version = '1' "
        f"order by {', '.join(key)}"
    )
    assert found == list(zip(wanted["prediction"], wanted["probability_1"], strict=True))
    assert "99" in shop.refused("predict", "category_purchase_rf/99", asked[1])


def test_a_refresh_without_recipes_keeps_what_served_models_read(shop, run):
    marts = ("user_demographics", "user_activity", "user_category_affinity")
    line = shop.runner("refresh")
    assert all(mart in line for mart in marts)
    assert "features from " in line
    assert "; nothing to build; " in shop.runner("refresh")
    assert "refresh: features from " in shop.run("runner", "status").stderr


def without_numbers(line):
    # Whether the first user has looked at the category depends on the day.
    line = line.replace('["user_category_affinity"]', "[]")
    return re.sub(r"\d[\d.e-]*", "0", line)


def pattern(line):
    """Return a line of a table or a sentence without its numbers, signs and widths."""
    whole = re.sub(r"(?<=\d),(?=\d)", "", line)
    return " ".join(without_numbers(whole).replace("-0", "0").split())


def test_the_readme_shows_what_became_of_a_replayed_fortnight(shop, run):
    printed = []
    for _ in range(2):  # the demo once more replaces what its first run replayed
        done = shop.run("python", "-m", "examples.shop.replay", "recipes/rf.yaml")
        assert done.returncode == 0, done.stderr
        printed += done.stdout.splitlines()
        shop.runner("collect")
    of = "from raw_data.predictions where server_id = 'replay'"
    [(rows, days)] = shop.query(f"select count(*), count(distinct served_at::date) {of}")
    assert f"{rows:,} recommendations" in printed[0]
    assert days == 14
    built = ("stg_serving__predictions", "outcome_category_purchase")
    done = shop.run("dbt", "build", "--target", "local", "--select", *built)
    assert done.returncode == 0, done.stdout
    printed += shop.runner("monitor", "recipes/rf.yaml", "--since", "14d").splitlines()
    shown = block_after("replays the recommendations").splitlines()
    assert [one for one in shown if one != "…" and pattern(one) not in map(pattern, printed)] == []


def test_the_file_of_keys_in_the_readme_can_be_scored(shop, tmp_path):
    (tmp_path / "keys.csv").write_text(re.search(r"```csv\n(.*?)```", README, re.DOTALL)[1])
    shop.runner("predict", "recipes/rf.yaml", f"{tmp_path}/keys.csv", "-o", f"{tmp_path}/p.csv")
    assert pd.read_csv(tmp_path / "p.csv")["user_id"].tolist() == [17]


def test_training_again_gives_the_same_dataset_and_scores(shop, run, trained_again):
    trainings = "tags.dataset_sha256 != ''"  # runner monitor's runs are in the experiment too
    again = mlflow.MlflowClient().search_runs(run.info.experiment_id, trainings, max_results=1)[0]
    assert again.info.run_id != run.info.run_id
    assert again.data.tags["dataset_sha256"] == run.data.tags["dataset_sha256"]
    assert again.data.metrics.items() >= run.data.metrics.items()
    # The same model again differs from the champion by exactly nothing, so it replaces nothing.
    assert again.data.metrics["champion_difference_high"] == 0
    assert again.data.tags["gate"] == "refused"
    assert sorted(shop.registered("category_purchase_rf")[1]) == ["challenger", "champion"]


def test_two_versions_are_compared_promoted_and_rolled_back_as_the_docs_say(shop):
    name = "user_spend"
    shop.runner("train", "recipes/spend.yaml")
    assert shop.registered(name) == (["1"], ["champion"])  # its gate's thresholds are passed
    shop.runner("train", "recipes/spend.yaml")
    rows = json.loads(shop.runner("compare", f"{name}@champion", f"{name}@challenger", "--json"))
    same = {row["name"]: row for row in rows if row["group"] == "metrics"}
    assert same["test_r2"]["a"] == same["test_r2"]["b"]
    page = (Path(__file__).resolve().parents[2] / "docs/gates.md").read_text()
    compared, promoted, rolled_back = (
        shop.runner(*line.split()) for line in re.findall(r"^\$ runner (.*)$", page, re.MULTILINE)
    )
    assert "≠" in compared
    assert max(map(len, compared.splitlines())) <= 100
    assert "is the champion now" in promoted
    assert "is the champion now" in rolled_back
    assert shop.registered(name)[1] == ["champion"]
    assert "had no champion before" in shop.refused("rollback", "recipes/spend.yaml")


def test_a_worse_model_with_other_features_does_not_replace_the_champion(shop):
    text = (shop.root / "recipes/rf.yaml").read_text()
    assert '"user_category_affinity:*"' in text
    worse = text.replace(', "user_category_affinity:*"', "").split("\ngate:")[0] + "\n"
    (shop.root / "recipes/worse.yaml").write_text(worse)
    done = shop.run("runner", "train", "recipes/worse.yaml")
    (shop.root / "recipes/worse.yaml").unlink()
    assert done.returncode == 0, done.stderr
    assert "worse by more than noise" in done.stderr
    assert "runner compare category_purchase_rf@champion" in done.stderr


@pytest.mark.parametrize("recipe", ["logreg", "hgb"])  # spend: above; rf: the shop itself
def test_every_recipe_of_the_repository_trains_and_passes_its_gate(shop, recipe):
    # Under a name of its own: there is no champion to beat, the thresholds alone decide.
    path = shop.root / f"recipes/{recipe}.yaml"
    text, name = path.read_text(), load_recipe(path).registered_model_name
    first = shop.root / "recipes/first.yaml"
    key = "registered_model_name: "
    first.write_text(text.replace(f"{key}{name}", f"{key}{recipe}_first"))
    shop.runner("train", "recipes/first.yaml")
    first.unlink()
    assert shop.registered(f"{recipe}_first") == (["1"], ["champion"])


def tuned_recipe(shop, n_trials):
    """Write a recipe that searches for the regularization of the logistic regression."""
    text = (shop.root / "recipes/logreg.yaml").read_text()
    text = text.replace("category_purchase_logreg", "tuned").replace("C: 1.0, ", "")
    search = f"{{n_trials: {n_trials}, search_space: {{C: {{float: [0.001, 10], log: true}}}}}}"
    (shop.root / "recipes/tuned.yaml").write_text(f"{text}tuning: {search}\n")


def test_tuning_that_was_interrupted_goes_on_and_its_best_arguments_are_served(shop):
    tuned_recipe(shop, 1000)
    assert shop.runner("check", "recipes/tuned.yaml") == "recipes/tuned.yaml: OK\n"
    command = [warm.program("runner"), "train", "recipes/tuned.yaml"]
    with subprocess.Popen(command, cwd=shop.root, env=shop.env) as process:
        deadline = time.monotonic() + 300
        while finished_trials(shop) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert shop.registered("tuned") == ([], [])
    kept = finished_trials(shop)
    tuned_recipe(shop, kept + 1)
    done = shop.run("runner", "train", "recipes/tuned.yaml")
    (shop.root / "recipes/tuned.yaml").unlink()
    assert done.returncode == 0, done.stderr
    assert f"trial {kept + 1}/{kept + 1}  best roc_auc 0." in done.stderr
    assert finished_trials(shop) == kept + 1
    assert shop.registered("tuned") == (["1"], ["champion"])


def finished_trials(shop):
    try:
        with closing(sqlite3.connect(f"file:{shop.root}/mlruns/optuna.db?mode=ro", uri=True)) as db:
            query = "SELECT count(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED')"
            return db.execute(query).fetchone()[0]
    except sqlite3.OperationalError:  # not there yet
        return 0


def test_a_model_below_its_gate_is_registered_and_not_promoted(shop):
    text = (shop.root / "recipes/logreg.yaml").read_text()
    name = load_recipe(shop.root / "recipes/logreg.yaml").registered_model_name
    strict = text.replace(name, "too_strict").split("\ngate:")[0] + "\ngate: {roc_auc: 0.999}\n"
    (shop.root / "recipes/strict.yaml").write_text(strict)
    done = shop.run("runner", "train", "recipes/strict.yaml")
    (shop.root / "recipes/strict.yaml").unlink()
    assert done.returncode == 0, done.stderr
    assert "below the threshold 0.999" in done.stderr
    assert shop.registered("too_strict") == (["1"], ["challenger"])


def test_killing_a_training_leaves_no_version_and_no_alias(shop):
    text = (shop.root / "recipes/logreg.yaml").read_text()
    name = load_recipe(shop.root / "recipes/logreg.yaml").registered_model_name
    path = shop.root / "recipes/killed.yaml"
    for marker in ("dbt", "fit", "evaluate"):
        path.write_text(text.replace(name, f"killed_{marker}"))
        with subprocess.Popen(
            [warm.program("runner"), "train", "recipes/killed.yaml"],
            cwd=shop.root,
            env=shop.env,
            stderr=subprocess.PIPE,
            text=True,
        ) as training:
            for line in training.stderr:
                if marker in line:
                    break
            training.send_signal(warm.KILL)
        assert shop.registered(f"killed_{marker}") == ([], [])
    path.unlink()


def test_ctrl_c_ends_a_training_with_130_and_registers_nothing(shop):
    with subprocess.Popen(
        [warm.program("runner"), "train", "recipes/hgb.yaml"],
        cwd=shop.root,
        env=shop.env,
        stderr=subprocess.PIPE,
        text=True,
    ) as training:
        for line in training.stderr:
            if "dbt" in line:
                break
        started = time.monotonic()
        training.send_signal(signal.SIGINT)
        rest = training.stderr.read()
    assert training.returncode == 130
    assert "Traceback" not in rest
    assert time.monotonic() - started < 30


def test_dbt_and_feast_and_mlflow_work_without_the_runner(shop):
    for command in (
        ("dbt", "ls", "--target", "local", "--resource-type", "model"),
        ("feast", "-c", "feature_repo", "apply"),
        ("feast", "-c", "feature_repo", "feature-views", "list"),
        ("feast", "-c", "feature_repo", "feature-services", "list"),
    ):
        done = shop.run(*command)
        assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    assert "rf" in done.stdout
    assert "spend" in done.stdout


def test_dbt_docs_are_generated_and_served(shop):
    port = free_port()
    with subprocess.Popen(
        [warm.program("runner"), "docs", "--port", str(port)],
        cwd=shop.root,
        env=shop.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as docs:
        wait_for_http(docs, f"http://127.0.0.1:{port}/")
        with urlopen(f"http://127.0.0.1:{port}/manifest.json") as answer:
            manifest = json.load(answer)
        docs.send_signal(signal.SIGINT)
        try:
            assert docs.wait(30) == 0
        finally:
            docs.kill()
    [described] = [
        column["description"]
        for node in manifest["nodes"].values()
        if node["name"] == "user_demographics"
        for column in node["columns"].values()
        if column["name"] == "age_years"
    ]
    assert described.endswith("From `raw_data.users.age`.")
    assert "exposure.shop.endpoint_rf" in manifest["exposures"]

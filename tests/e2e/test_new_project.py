"""`runner init`, from an installed package to an HTTP prediction, by the new project's README."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from tests.conftest import copy_folder
from tests.e2e.conftest import REPOSITORY, Project, environment, served
from tests.e2e.pages import before_serving, run

RECIPE = "recipes/reorder.yaml"


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package, by the image's own command installed from a wheel into an empty folder."""
    folder = tmp_path_factory.mktemp("package")
    for name in ("contract", "runner", "serving"):
        copy_folder(REPOSITORY / name, folder / "source" / name)
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements.lock"):
        shutil.copy(REPOSITORY / name, folder / "source")
    wheel = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*wheel, "-w", folder, folder / "source"], check=True, timeout=300)
    [built] = folder.glob("*.whl")
    dockerfile = (REPOSITORY / "runner" / "skeleton" / "Dockerfile").read_text()
    [arguments] = re.findall(
        r"^RUN pip (install .*) /tmp/wheels/\*\.whl$", dockerfile, re.MULTILINE
    )
    pip = [sys.executable, "-m", "pip", *arguments.split(), "--quiet"]
    subprocess.run([*pip, "--target", folder / "prefix", built], check=True, timeout=300)
    return folder / "prefix"


@pytest.fixture(scope="module")
def project(package, tmp_path_factory, new_database, redis_server):
    """A new project, after every command of its README but those that serve and ask."""
    env = environment(new_database(), redis_server)
    path = f"{Path(sys.executable).parent}:{env['PATH']}"
    env |= {"PATH": path, "PYTHONPATH": str(package)}
    folder = tmp_path_factory.mktemp("home")
    run(folder, [f"{sys.executable} -m runner init reorder-demo"], env)
    made = Project(folder / "reorder-demo", env)
    run(made.root, before_serving((made.root / "README.md").read_text()), env)
    return made


def test_it_ends_in_a_champion_and_a_prediction(project):
    assert project.registered("reorder_demo_reorder") == (["1"], ["champion"])
    (body,) = re.findall(r"-d '(.*)'", (project.root / "README.md").read_text())
    with served(project, RECIPE) as api:
        (prediction,) = api.post("/predict", json.loads(body))["predictions"]
    features = {name: f["value"] for name, f in prediction["features"].items()}
    [(orders,)] = project.query("select count(*) from raw_data.orders where customer_id = 36")
    assert features["customer_orders__orders_count_all"] == orders
    assert features["customer_orders__last_channel"] in {"web", "app", "store"}
    assert 0 < prediction["probabilities"]["1"] < 1


def test_everything_in_it_builds_and_its_recipe_is_right(project):
    done = project.run("dbt", "build", "--target", "local")
    assert done.returncode == 0, done.stdout
    assert project.runner("check").strip() == f"{RECIPE}: OK"


def test_its_sql_is_read_for_the_cloud_target_too(project):
    done = project.run("dbt", "parse", "--target", "cloud", GOOGLE_CLOUD_PROJECT="anyone-s")
    assert done.returncode == 0, done.stdout


def test_git_sees_nothing_that_the_commands_made(project):
    run(project.root, ["git init -q", "git add ."], project.env)
    listed = subprocess.run(
        ["git", "ls-files"], cwd=project.root, capture_output=True, text=True, check=True
    )
    tops = {line.partition("/")[0] for line in listed.stdout.split()}
    written = {path.name for path in (REPOSITORY / "runner" / "skeleton").iterdir()}
    links_and_schema = {"profiles.yml", "schemas"}
    dotted = {"dockerignore", "gitignore"}
    assert tops == written - dotted | {f".{name}" for name in dotted} | links_and_schema


@pytest.mark.parametrize("class_path", ["lightgbm.LGBMClassifier", "xgboost.XGBClassifier"])
def test_an_extras_model_answers_over_http_what_it_predicts_itself(project, class_path):
    name = class_path.partition(".")[0]
    recipe = project.root / "recipes" / f"{name}.yaml"
    text = (project.root / RECIPE).read_text()
    text = text.replace("sklearn.ensemble.RandomForestClassifier", class_path)
    text = text.replace("n_estimators: 100, min_samples_leaf: 10", "n_estimators: 50")
    recipe.write_text(text.replace("reorder_demo_reorder", name))
    project.runner("train", f"recipes/{name}.yaml")
    customers = [{"customer_id": number} for number in (*range(1, 121), 999_999)]
    with served(project, f"recipes/{name}.yaml") as api:
        answer = api.post("/predict", {"entity_rows": customers, "include_features": True})
    rows = [
        {feature: value["value"] for feature, value in prediction["features"].items()}
        for prediction in answer["predictions"]
    ]
    assert rows[-1] == dict.fromkeys(rows[0])  # nothing is known of the stranger
    X = pd.DataFrame(rows)
    X["customer_orders__last_channel"] = X["customer_orders__last_channel"].fillna("")
    X = X.astype({column: np.float32 for column in X if X[column].dtype != object})
    expected = logged_pipeline(project, name).predict_proba(X)
    answered = [[p["probabilities"][c] for c in "01"] for p in answer["predictions"]]
    np.testing.assert_allclose(answered, expected, rtol=0, atol=1e-5)


def logged_pipeline(project, name):
    """Return the champion's pipeline, as MLflow keeps it."""
    mlflow.set_tracking_uri(project.settings.mlflow_tracking_uri)
    run = mlflow.MlflowClient().get_model_version_by_alias(name, "champion").run_id
    return mlflow.sklearn.load_model(f"runs:/{run}/model")

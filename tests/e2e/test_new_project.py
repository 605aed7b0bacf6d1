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
import redis
import yaml

from contract.log_format import FIELD, LogEntry, stream_key
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
    again = project.run("runner", "check")
    assert (again.stdout.strip(), again.stderr) == (f"{RECIPE}: OK", "")  # dbt was not asked again


def test_what_its_checks_run_passes(project):
    [local] = yaml.safe_load((project.root / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for hook in local["hooks"]] == ["runner check", "sqlfluff lint"]
    workflow = yaml.safe_load((project.root / ".github/workflows/checks.yml").read_text())
    steps = [step["run"] for step in workflow["jobs"]["checks"]["steps"] if "run" in step]
    checks = ["runner up", "dbt build", "runner check", "sqlfluff lint models"]
    assert [step for step in steps if not step.startswith("pip ")] == checks
    done = project.run(str(Path(sys.executable).with_name("sqlfluff")), "lint", "models")
    assert done.returncode == 0, done.stdout


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
    dotted = {"dockerignore", "github", "gitignore", "pre-commit-config.yaml", "sqlfluff"}
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


SERVED = "recipes/served.yaml"


@pytest.fixture(scope="module")
def answered(project):
    """The project after its API answered, `runner collect`, and the orders of the next 30 days.

    The last of these decides the labels of all rows but the last. Earlier requests, one after each
    order of half a year, are in the log as if the API had answered them then.
    """
    with served(project, RECIPE) as api:
        api.post("/predict", {"entity_rows": [{"customer_id": c} for c in (36, 7, 999_999)]})
        api.post("/predict", {"entity_rows": [{"customer_id": 36}]})
    project.runner("collect")
    replay(project)
    project.runner("collect")
    project.query(
        """
        insert into raw_data.orders (id, customer_id, ordered_at)
        select 90001, 36, served_at + interval '30 days' from last_rows where place = 2
        union all
        select 90002, 7, served_at + interval '30 days 1 us' from last_rows where place = 2
        union all
        select 90003, 1, served_at + interval '30 days' - interval '1 us'
        from last_rows where place = 1
    """.replace("last_rows", LAST_ROWS)
    )
    recipe = (project.root / RECIPE).read_text().replace("spine_reorder", "outcome_reorder")
    recipe = recipe.replace("gate: {roc_auc: 0.6}", "")  # three rows of today are its test period
    (project.root / SERVED).write_text(recipe.replace("reorder_demo_reorder", "served"))
    project.runner("train", SERVED)
    return project


LAST_ROWS = """(
    select served_at, row_number() over (order by served_at desc) as place
    from (select distinct served_at from raw_data.predictions) as answers
) as last_rows"""


def replay(project):
    """Add to the log's stream what the API would have logged after each order of half a year."""
    [(bundle, features)] = project.query("""
        select bundle_sha256, array(select null from jsonb_object_keys(features))
        from raw_data.predictions
        limit 1
    """)
    asked = project.query(
        "select customer_id, extract(epoch from event_timestamp)::float "
        "from spine_data.spine_reorder where event_timestamp > '2025-06-01' order by 2"
    )
    answers = [
        (at, f"r{number}", [(0, [customer], features, None, [None], 1, [0.25, 0.75])])
        for number, (customer, at) in enumerate(asked)
    ]
    entry = LogEntry("replay", 1, bundle, "1", 1.0, answers)
    with redis.Redis.from_url(project.settings.redis.url) as log:
        log.xadd(stream_key("reorder_demo"), {FIELD: entry.dump()})


def test_each_served_row_that_is_due_has_the_label_of_the_spines_definition(answered):
    wrong, right, labels = answered.query("""
        select
            count(*) filter (where is_reorder_30d != is_expected),
            count(*) filter (where is_reorder_30d = is_expected),
            count(distinct is_reorder_30d)
        from spine_data.outcome_reorder as served
        cross join lateral (
            select exists (
                select from raw_data.orders as o
                where o.customer_id = served.customer_id
                  and o.ordered_at > served.event_timestamp
                  and o.ordered_at <= served.event_timestamp + interval '30 days'
            ) as is_expected
        ) as expected
    """)[0]
    [(logged,)] = answered.query("select count(*) from raw_data.predictions")
    assert (wrong, right, labels) == (0, logged - 1, 2)


def test_the_instant_of_the_answer_decides_to_the_microsecond(answered):
    found = answered.query("""
        select customer_id, is_reorder_30d
        from spine_data.outcome_reorder
        where event_timestamp = (select max(event_timestamp) from spine_data.outcome_reorder)
        order by customer_id
    """)
    assert found == [(7, False), (36, True), (999_999, False)]


def test_a_recipe_trains_on_what_was_really_asked(answered):
    bundle, rows = answered.trained("served")
    [(decided, strangers)] = answered.query(
        "select count(*), count(*) filter (where customer_id = 999999) "
        "from spine_data.outcome_reorder"
    )
    assert rows.num_rows == decided
    assert bundle.label.name == "is_reorder_30d"
    assert rows["customer_orders__orders_count_all"].null_count == strangers > 0


def test_what_was_served_is_predicted_once_more(answered):
    answered.runner("predict", SERVED, "outcome_reorder", "--to", "scores.again")
    [(models, predictions, labels)] = answered.query("""
        select array_agg(distinct again.model_name), count(again.prediction), count(is_reorder_30d)
        from scores.again
        inner join raw_data.predictions using (server_id, server_row)
    """)
    assert models == ["served"]
    assert predictions == labels > 100


def test_check_compares_the_outcome_model_with_its_spine(answered):
    path = answered.root / "models/outcome/outcome_reorder.yml"
    text = path.read_text()
    path.write_text(text.replace("{is_reorder_30d: 30d}", "{is_reorder_30d: 7d}"))
    try:
        done = answered.run("runner", "check")
    finally:
        path.write_text(text)
    line = 1 + text[: text.index("{is_reorder_30d: 30d}")].count("\n")
    problem = "outcome_reorder: meta.labels.is_reorder_30d is 7d, but 30d in spine_reorder"
    assert f"models/outcome/outcome_reorder.yml:{line}: {problem}" in done.stdout
    assert done.returncode == 1


def test_dbt_shows_and_tests_what_was_monitored(answered):
    answered.runner("monitor", RECIPE)
    done = answered.run("dbt", "build", "--target", "local", "--select", "stg_monitoring__figures")
    assert done.returncode == 0, done.stdout
    kinds = answered.query("select distinct kind from staging.stg_monitoring__figures")
    assert {kind for (kind,) in kinds} >= {"rows", "drift", "missing", "age"}


def test_monitor_trains_again_if_a_limit_is_broken(answered):
    monitored = "recipes/monitored.yaml"
    recipe = (answered.root / RECIPE).read_text()
    (answered.root / monitored).write_text(recipe + "monitor: {max_age: 1s}\n")
    done = answered.run("runner", "monitor", monitored)
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "the limit is 1s" in done.stderr
    done = answered.run("runner", "monitor", monitored, "--retrain")
    assert done.returncode == 0, done.stderr
    assert "warning: " in done.stderr
    versions, _ = answered.registered("reorder_demo_reorder")
    assert versions == ["1", "2"]

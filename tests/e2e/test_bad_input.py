"""Wrong input ends in one `error:` and one `hint:` line, exit code 1, and nothing registered.

`Project.refused` checks the form; the tests here check what is said.
"""

import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.conftest import free_port

RECIPE = """
registered_model_name: {name}
experiment_name: bad_input
task: classification
spine: {spine}
label: is_purchase_7d
features: ["{features}"]
split: {{test: 28d, embargo: 10d}}
estimator: {{class_path: sklearn.linear_model.LogisticRegression}}
scoring: [roc_auc]
"""
SPINE = """
select user_id, category_id, event_timestamp, {label} as is_purchase_7d
from {{{{ ref('spine_category_purchase') }}}} {where}
"""
SPINE_YAML = """
models:
  - name: {name}
    description: x
    config:
      meta:
        entities: {{user: user_id, category: category_id}}
        labels: {{is_purchase_7d: 10d}}
    columns:
      - {{name: user_id, data_type: bigint, description: x}}
      - {{name: category_id, data_type: bigint, description: x}}
      - {{name: event_timestamp, data_type: timestamptz, description: x}}
      - {{name: is_purchase_7d, data_type: bigint, description: x}}
"""
MART_YAML = """
models:
  - name: user_nothing
    description: x
    config:
      meta:
        entities: {user: user_id}
    columns:
      - {name: user_id, data_type: bigint, description: x}
      - {name: event_timestamp, data_type: timestamptz, description: x}
      - {name: nothing, data_type: bigint, description: x}
"""


@contextmanager
def files(shop, contents):
    """Put files into the project while the body runs, and take them away or back after it."""
    before = {}
    for name, text in contents.items():
        path = shop.root / name
        before[path] = path.read_text() if path.exists() else None
        path.write_text(text)
    try:
        yield
    finally:
        for path, text in before.items():
            if text is None:
                path.unlink()
            else:
                path.write_text(text)


def recipe(name, spine="spine_category_purchase", features="user_activity:orders_7d"):
    return {"recipes/bad.yaml": RECIPE.format(name=name, spine=spine, features=features)}


def spine(name, label, where=""):
    folder = "dbt_project/models/spine_data"
    return {
        f"{folder}/{name}.sql": SPINE.format(label=label, where=where),
        f"{folder}/{name}.yml": SPINE_YAML.format(name=name),
    }


def test_a_wrong_recipe_names_every_mistake_with_its_place(shop):
    wrong = RECIPE.format(name="bad", spine="s", features="user_activity").replace(
        "experiment_name", "experiment"
    )
    with files(shop, {"recipes/bad.yaml": wrong}):
        told = shop.refused("train", "recipes/bad.yaml")
    assert "recipes/bad.yaml:3:1" in told
    assert "experiment_name" in told
    assert "recipes/bad.yaml:7:12" in told


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"spine": "spine_category_purchas"}, "spine_category_purchase"),
        ({"features": "user_activty:*"}, "user_activity"),
        ({"features": "user_activity:order_7d"}, "orders_7d"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_one(shop, changes, said):
    with files(shop, recipe("bad", **changes)):
        told = shop.refused("train", "recipes/bad.yaml")
    assert "recipes/bad.yaml:" in told
    assert said in told.splitlines()[-1] or f"'{said}'" in told


def test_a_missing_label_column_is_named(shop):
    text = recipe("bad")["recipes/bad.yaml"].replace("label: is_purchase_7d", "label: is_purchase")
    with files(shop, {"recipes/bad.yaml": text}):
        told = shop.refused("train", "recipes/bad.yaml")
    assert "recipes/bad.yaml:6:" in told
    assert "is_purchase_7d" in told


@pytest.mark.parametrize("command", ["train", "plan"])
def test_a_recipe_that_does_not_fit_is_no_failure_of_dbt(shop, command):
    with files(shop, recipe("bad", features="user_activity:order_7d")):
        done = shop.run("runner", command, "recipes/bad.yaml", REDIS_URL="redis://127.0.0.1:1")
    lines = done.stderr.splitlines()
    assert [
        line for line in lines if not line.startswith(("✓ dbt parse", "error: ", "hint: "))
    ] == []
    assert lines[-2].startswith("error: recipes/bad.yaml:7:")


def test_a_dbt_compile_error_names_the_file(shop):
    name = "dbt_project/models/feature_mart/user_activity.sql"
    with files(shop, {name: "select {{ ref('nowhere') }}"} | recipe("bad")):
        told = shop.refused("train", "recipes/bad.yaml")
    assert "nowhere" in told
    assert "user_activity" in told


def test_a_database_error_in_sql_names_the_file(shop):
    broken = spine("spine_broken", "no_such_column") | recipe("bad", "spine_broken")
    with files(shop, broken):
        told = shop.refused("train", "recipes/bad.yaml")
    assert "dbt_project/models/spine_data/spine_broken.sql" in told
    assert "no_such_column" in told
    assert "dbt build --select spine_broken" in told


def test_a_failing_dbt_test_names_the_test_and_its_file(shop):
    contents = spine("spine_tested", "is_purchase_7d")
    yml = "dbt_project/models/spine_data/spine_tested.yml"
    contents[yml] = contents[yml].replace(
        "{name: is_purchase_7d, data_type: bigint, description: x}",
        "{name: is_purchase_7d, data_type: bigint, description: x, data_tests: [unique]}",
    )
    with files(shop, contents | recipe("bad", "spine_tested")):
        told = shop.refused("train", "recipes/bad.yaml", DBT_EXCLUDE_RESOURCE_TYPES="unit_test")
    assert "unique_spine_tested_is_purchase_7d" in told
    assert yml in told


@pytest.mark.parametrize(
    ("name", "label", "where", "said"),
    [
        ("spine_empty", "is_purchase_7d", "where false", "spine_data.spine_empty) is empty"),
        ("spine_single", "cast(1 as bigint)", "", "is 1 in all"),
        (
            "spine_unlabelled",
            "case when category_id > 1 then is_purchase_7d end",
            "",
            "spine_unlabelled.is_purchase_7d is null in",
        ),
    ],
)
def test_a_spine_that_cannot_train_is_refused(shop, name, label, where, said):
    with files(shop, spine(name, label, where) | recipe(name, name)):
        assert said in shop.refused("train", "recipes/bad.yaml")
    assert shop.registered(name) == ([], [])


def test_a_split_without_training_rows_is_told_before_the_join(shop):
    text = recipe("bad")["recipes/bad.yaml"].replace("test: 28d", "test: 3000d")
    with files(shop, {"recipes/bad.yaml": text}):
        told = shop.run("runner", "train", "recipes/bad.yaml").stderr
    [(rows,)] = shop.query("select count(*) from spine_data.spine_category_purchase")
    place = "recipes/bad.yaml:8:9: split.test"
    assert f"error: {place}: leaves 0 training, {rows:,} test rows: the spine's {rows:,}" in told
    assert "✗ split the spine's rows by time" in told
    assert "join features" not in told


def test_a_feature_without_values_is_refused(shop):
    mart = {
        "dbt_project/models/feature_mart/user_nothing.sql": (
            "{{ config(materialized='table') }} select user_id, event_timestamp, "
            "cast(null as bigint) as nothing from {{ ref('user_activity') }}"
        ),
        "dbt_project/models/feature_mart/user_nothing.yml": MART_YAML,
    }
    with files(shop, mart | recipe("nothing", features="user_nothing:*")):
        told = shop.refused("train", "recipes/bad.yaml")
    assert "user_nothing:nothing is null in every training row" in told
    assert shop.registered("nothing") == ([], [])


def test_a_model_name_taken_by_another_schema_is_refused(shop):
    text = (shop.root / "recipes/spend.yaml").read_text()
    old = next(line for line in text.splitlines() if line.startswith("registered_model_name"))
    taken = text.replace(old, "registered_model_name: category_purchase_rf")
    with files(shop, {"recipes/bad.yaml": taken}):
        told = shop.refused("train", "recipes/bad.yaml")
    assert "exists with another schema" in told
    assert "classification of is_purchase_7d by category_id int64, user_id int64" in told


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PGPORT", "{port}", "PostgreSQL does not answer at 127.0.0.1:{port}"),
        ("REDIS_URL", "redis://127.0.0.1:{port}/0", "Redis does not answer at 127.0.0.1:{port}"),
    ],
)
@pytest.mark.parametrize(
    "command", [("train", "recipes/rf.yaml"), ("materialize",), ("audit", "recipes/rf.yaml")]
)
def test_a_server_that_is_down_is_named_with_its_address(shop, variable, value, said, command):
    port = free_port()
    told = shop.refused(*command, **{variable: value.format(port=port)})
    assert said.format(port=port) in told
    assert "runner up" in told


def test_the_online_store_is_looked_into_while_postgresql_is_down(shop):
    command = ("online", "get", "user_activity", "user_id=1")
    assert "orders_7d" in shop.runner(*command, PGPORT=str(free_port()))
    port = free_port()
    told = shop.refused(*command, REDIS_URL=f"redis://127.0.0.1:{port}/0")
    assert f"Redis does not answer at 127.0.0.1:{port}" in told
    assert "runner up" in told


@pytest.mark.parametrize(
    ("variable", "value"), [("PGPORT", "{port}"), ("REDIS_URL", "redis://127.0.0.1:{port}/0")]
)
def test_a_stranger_on_the_port_is_not_taken_for_a_server(shop, variable, value):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        told = shop.refused("up", **{variable: value.format(port=port)})
    assert f"127.0.0.1:{port}" in told
    assert variable in told


def test_a_full_disk_is_told_and_leaves_no_version(shop, tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs root and the permission to mount a small tmpfs")
    try:
        uri = f"sqlite:///{tmp_path}/mlflow.db"
        told = shop.refused("train", "recipes/logreg.yaml", MLFLOW_TRACKING_URI=uri)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert "disk full" in told


def test_predictions_of_wrong_files_are_refused_and_nothing_is_written(shop, tmp_path):
    keys = tmp_path / "keys.csv"
    out = str(tmp_path / "out.parquet")
    keys.write_text("user_id\n1\n")
    assert "no column 'category_id'" in shop.refused(
        "predict", "recipes/rf.yaml", str(keys), "-o", out
    )
    keys.write_text("user_id,category_id\n1,two\n")
    told = shop.refused("predict", "recipes/rf.yaml", str(keys), "-o", out)
    assert "category_id in row 1: expected int64, got 'two'" in told
    assert "user_id int64, category_id int64" in told
    for taken in ("prediction", "probability_1"):
        keys.write_text(f"user_id,category_id,{taken}\n1,2,3\n")
        assert f"has a column '{taken}', which the predictions would have too" in shop.refused(
            "predict", "recipes/rf.yaml", str(keys), "-o", out
        )
    for text, told in {
        "user_id,category_id,event_timestamp\n1,2,yesterday\n": "in row 1 is not a time: yesterday",
        "user_id,category_id,event_timestamp\n1,2,9999-01-01\n": "row 1 is not a time: 9999-01-01",
        "user_id,category_id,event_timestamp\n1,2,2026-01-01\n1,2,\n": "event_timestamp is empty",
        "user_id,category_id\n1,2\n,2\n": "user_id is empty in 1 of 2 rows, first in row 2",
        "user_id,category_id,user_id\n1,2,3\n": "has two columns 'user_id'",
        "user_id,category_id\n": "has no rows",
    }.items():
        keys.write_text(text)
        assert told in shop.refused("predict", "recipes/rf.yaml", str(keys), "-o", out)
    assert "cannot be read" in shop.refused("predict", "recipes/rf.yaml", "no.csv", "-o", out)
    assert "did you mean spine_user_spend" in shop.refused(
        "predict", "recipes/rf.yaml", "spine_user_spen", "-o", out
    )
    assert "not a .parquet or .csv file" in shop.refused(
        "predict", "recipes/rf.yaml", str(keys), "-o", "out.xlsx"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["keys.csv"]


def test_a_feature_that_dbt_has_no_more_is_named_before_anything_is_predicted(shop, tmp_path):
    keys, out = tmp_path / "keys.csv", str(tmp_path / "out.parquet")
    keys.write_text("user_id,category_id\n1,2\n")
    manifest = shop.settings.manifest_path
    before = manifest.read_text()
    manifest.write_text(before.replace("views_7d", "views_of_week"))
    try:
        told = shop.refused("predict", "recipes/rf.yaml", str(keys), "-o", out)
    finally:
        manifest.write_text(before)
    assert "category_purchase_rf version" in told
    assert "takes user_activity:views_7d, which dbt does not have" in told
    assert [path.name for path in tmp_path.iterdir()] == ["keys.csv"]


def test_a_model_without_a_champion_is_named(shop):
    told = shop.refused("predict", "nobody", "spine_user_spend")
    assert "'nobody'" in told
    assert "runner train" in told


def test_a_command_outside_a_project_says_where_to_go(shop, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "runner", "status"],
        cwd=tmp_path,
        env=shop.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no dbt_project.yml" in done.stderr


def test_wrong_usage_exits_with_2(shop):
    assert shop.run("runner", "train").returncode == 2
    assert shop.run("runner", "fly").returncode == 2


def test_an_unknown_target_is_refused(shop):
    assert "unknown target 'moon'" in shop.refused("status", "--target", "moon")

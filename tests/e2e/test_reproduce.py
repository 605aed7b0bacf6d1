"""A run is trained again: the same numbers, or an exact account of what changed."""

import json
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

DEMOGRAPHICS = "dbt_project/models/feature_mart/user_demographics.sql"
CHAMPION = "category_purchase_rf@champion"


def reproduced(shop):
    """What reproducing the champion prints, and that it exits as it says."""
    done = shop.run("runner", "reproduce", CHAMPION, "--json")
    assert all(line.startswith("✓ ") for line in done.stderr.splitlines()), done.stderr
    found = json.loads(done.stdout)
    assert done.returncode == (0 if found["reproduced"] else 1)
    return found


def line(found, what):
    return next(line for line in found["lines"] if line["what"] == what)


@pytest.fixture(scope="module")
def run(shop):
    """The champion's MLflow run."""
    mlflow.set_tracking_uri(shop.settings.mlflow_tracking_uri)
    client = mlflow.MlflowClient()
    version = client.get_model_version_by_alias("category_purchase_rf", "champion")
    return client.get_run(version.run_id)


@pytest.fixture(scope="module")
def recorded(run):
    """The rows that the champion's run recorded."""
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    return pq.read_table(folder / "dataset/training_rows.parquet")


@contextmanager
def edited(path, old, new):
    """The file with `old` replaced by `new` while the body runs."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    try:
        yield
    finally:
        path.write_text(text)


def test_a_run_is_reproduced_to_the_last_digit_and_leaves_nothing_behind(shop, run):
    client = mlflow.MlflowClient()
    before = (
        len(client.search_runs([run.info.experiment_id])),
        shop.registered("category_purchase_rf"),
    )
    found = reproduced(shop)
    assert found["run_id"] == run.info.run_id
    assert found["reproduced"]
    assert all(line["same"] for line in found["lines"])
    assert line(found, "test_neg_log_loss")["now"] == run.data.metrics["test_neg_log_loss"]
    assert line(found, "python")["then"] == run.data.tags["python_version"]
    assert before == (
        len(client.search_runs([run.info.experiment_id])),
        shop.registered("category_purchase_rf"),
    )


def test_a_changed_raw_row_is_told_by_the_columns_and_rows_it_changed(shop, recorded):
    user = recorded["user_id"][0].as_py()
    known = pc.and_(
        pc.equal(recorded["user_id"], user), pc.is_valid(recorded["user_demographics__age_years"])
    )
    n = pc.sum(known).as_py()
    assert n
    shop.query(f"update raw_data.users set age = age + 1 where id = {user}")
    try:
        found = reproduced(shop)
    finally:
        shop.query(f"update raw_data.users set age = age - 1 where id = {user}")
    assert not found["reproduced"]
    rows, scores = found["account"]
    assert rows == (
        f"{n:,} of the {recorded.num_rows:,} recorded rows changed: "
        f"user_demographics__age_years in {n:,}"
    )
    assert "every score is the same to the last digit" in scores
    assert line(found, "recorded rows")["same"]
    assert not line(found, "joined rows")["same"]
    assert line(found, "dbt project")["same"]


def test_a_row_that_arrived_late_is_told_apart_from_the_recorded_ones(shop, recorded):
    first = {name: recorded[name][0].as_py() for name in ("user_id", "category_id")}
    at = recorded["event_timestamp"][0].as_py()
    shop.query(
        "insert into raw_data.recommendations (id, user_id, category_id, recommended_at, loaded_at)"
        f" values (-1, {first['user_id']}, {first['category_id']},"
        f" timestamptz '{at}' + interval '1 second', now())"
    )
    try:
        found = reproduced(shop)
    finally:
        shop.query("delete from raw_data.recommendations where id = -1")
    assert not found["reproduced"]
    assert found["account"][:2] == [
        "the spine has 1 more row now, none of them later than every recorded one",
        f"the {recorded.num_rows:,} recorded rows are all there unchanged",
    ]


def test_changed_sql_is_told_and_does_not_overwrite_what_the_champion_reads(shop):
    devices = "select count(*) from feature_mart.user_demographics where device <> lower(device)"
    sql = shop.root / DEMOGRAPHICS
    with edited(sql, "        device,", "        upper(device) as device,"):
        done = shop.run("runner", "reproduce", CHAMPION, "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    changed, rows, scores = found["account"]
    assert changed.endswith("(SQL, config or columns): dbt model user_demographics")
    assert rows.startswith("the rows cannot be joined again: user_demographics: device changed, ")
    assert "category_purchase_rf version 1 (champion)" in rows
    assert rows.endswith("UPPER(device) AS device")
    assert "the same to the last digit" in scores
    assert not found["reproduced"]
    assert shop.query(devices) == [(0,)]


def test_a_feature_that_is_gone_does_not_keep_the_recorded_rows_from_being_checked(shop):
    path = shop.root / "recipes/gone.yaml"
    text = (shop.root / "recipes/logreg.yaml").read_text()
    text = text.replace("category_purchase_logreg", "gone")
    path.write_text(text.replace('"user_demographics:*"', '"user_demographics:country"'))
    shop.runner("train", "recipes/gone.yaml")
    path.unlink()
    sql = shop.root / DEMOGRAPHICS
    with (
        edited(sql, "        country,", "        country as land,"),
        edited(sql.with_suffix(".yml"), "- name: country", "- name: land"),
    ):
        done = shop.run("runner", "reproduce", "gone/1")
    assert done.returncode == 1
    assert "NOT reproduced" in done.stdout
    assert "cannot be joined again: user_demographics: country changed, and " in done.stdout
    assert "gone version 1 (champion)" in done.stdout
    assert "trained on the earlier definition: - user_demographics:country" in done.stdout
    assert "every score is the same to the last digit" in done.stdout


def test_what_was_undone_is_reproduced_again(shop):
    assert reproduced(shop)["reproduced"]


def test_a_run_that_is_none_is_refused(shop):
    assert "no model 'nothing' is registered" in shop.refused("reproduce", "nothing@champion")

"""A project, its MLflow records, Feast registry and online store of version 0.1 go on working.

`tests/snapshots/v0_1` holds what version 0.1 wrote: a project by `runner init`, trained once and
materialized. Nothing in it is renewed when the code changes.
"""

import base64
import csv
import json
import shutil
import sqlite3
from pathlib import Path

import pytest
import redis

from tests.e2e.conftest import Project, environment, served

SNAPSHOT = Path(__file__).resolve().parents[1] / "snapshots" / "v0_1"
RECIPE = "recipes/reorder.yaml"
MODEL = "old_reorder"
WATERMARK = "runner:materialize:old:customer_orders"


@pytest.fixture(scope="module")
def project(tmp_path_factory, new_database, redis_server):
    """The project of version 0.1 with its records, registry and online store, not yet used."""
    folder = tmp_path_factory.mktemp("previous") / "old"
    shutil.copytree(SNAPSHOT / "project", folder, symlinks=True)
    restore_records(folder)
    restored = Project(folder, environment(new_database(), redis_server))
    restored.query((SNAPSHOT / "feast_registry.sql").read_text())
    restore_online(restored.settings.redis.url)
    seeded = restored.run("dbt", "seed", "--target", "local")
    assert seeded.returncode == 0, seeded.stdout
    return restored


def restore_records(folder):
    """Put MLflow's database and artifacts where the project looks for them."""
    shutil.copytree(SNAPSHOT / "artifacts", folder / "mlruns")
    for described in folder.rglob("MLmodel"):
        described.write_text(described.read_text().replace("{ROOT}", str(folder)))
    with sqlite3.connect(folder / "mlruns" / "mlflow.db") as database:
        script = (SNAPSHOT / "mlflow.sql").read_text()
        database.executescript(script.replace("{ROOT}", str(folder)))


def restore_online(url):
    """Write the keys that the previous version left in Redis, its watermark among them."""
    with redis.Redis.from_url(url) as client:
        for stored in json.loads((SNAPSHOT / "redis.json").read_text()):
            key, value = base64.b64decode(stored["key"]), stored["value"]
            fields = {base64.b64decode(f): base64.b64decode(v) for f, v in value.items()}
            client.hset(key, mapping=fields)


def test_a_run_is_reproduced_to_the_last_digit(project):
    found = json.loads(project.runner("reproduce", f"{MODEL}@champion", "--json"))
    assert found["reproduced"], found


def test_the_bundle_predicts_what_it_predicted(project):
    expected = list(csv.DictReader((SNAPSHOT / "predictions.csv").open()))
    with (project.root / "keys.csv").open("w") as file:
        keys = csv.DictWriter(file, ["customer_id", "event_timestamp"], extrasaction="ignore")
        keys.writeheader()
        keys.writerows(expected)
    project.runner("predict", MODEL, "keys.csv", "-o", "again.csv")
    again = list(csv.DictReader((project.root / "again.csv").open()))
    assert [row["probability_1"] for row in again] == [row["probability_1"] for row in expected]
    told = project.refused("predict", MODEL, "keys.csv", "--explain")
    assert "was trained by an earlier release, without explanations" in told


def test_the_watermark_is_read_and_the_online_store_renewed(project):
    with redis.Redis.from_url(project.settings.redis.url) as client:
        before = client.hgetall(WATERMARK)
        assert before
        project.runner("materialize", RECIPE)
        assert client.hgetall(WATERMARK) != before
    online = project.runner("online", "get", "customer_orders", "customer_id=36", "--json")
    assert {value["status"] for value in json.loads(online)["values"]} == {"present"}


def test_the_bundle_is_served(project):
    rows = {"entity_rows": [{"customer_id": 36}], "include_features": True}
    with served(project, RECIPE) as api:
        answer = api.post("/predict", rows)
    assert answer["model"] == {"name": MODEL, "version": "1"}
    [prediction] = answer["predictions"]
    assert {f["status"] for f in prediction["features"].values()} == {"present"}


def test_feast_applies_the_project_to_its_registry(project):
    applied = project.run("feast", "-c", "feature_repo", "apply")
    assert applied.returncode == 0, applied.stderr


def test_a_new_version_is_compared_with_the_recorded_champion(project):
    project.runner("train", RECIPE)
    versions, aliases = project.registered(MODEL)
    assert (versions, set(aliases)) == (["1", "2"], {"challenger", "champion"})
    rows = json.loads(project.runner("compare", f"{MODEL}/1", f"{MODEL}/2", "--json"))
    assert not [row for row in rows if row["differs"] and row["group"] == "features"]

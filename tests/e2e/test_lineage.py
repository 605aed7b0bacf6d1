"""Column lineage with the real command, on the demo shop."""

import json
import re
import subprocess
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient

from runner.project.manifest import load_manifest
from tests import warm
from tests.browser import CHROMIUM, page
from tests.conftest import free_port
from tests.e2e.conftest import REPOSITORY
from tests.http_process import wait_for_http

PAGE = (REPOSITORY / "docs" / "lineage.md").read_text()
VERSION = re.compile(r"  \S+ version \d+( \(\w+\))?")
EXAMPLES = re.findall(r"^\$ runner (lineage .*)\n((?:[^$`].*\n)*)", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("command", "shown"), EXAMPLES, ids=[example[0] for example in EXAMPLES])
def test_the_page_shows_what_the_command_prints(shop, command, shown):
    expected = shown.splitlines()
    pattern = "".join(
        r"(?:.*\n)+?" if line.strip() == "…" else re.escape(f"{line}\n") for line in expected
    )
    printed = [
        line
        for line in shop.runner(*command.split()).splitlines()
        if line in expected or not VERSION.fullmatch(line)  # other tests train in the same project
    ]
    assert re.fullmatch(pattern, "\n".join([*printed, ""])), "say where lines are left out: …"


def test_a_raw_column_is_followed_to_features_recipes_and_versions(shop):
    found = json.loads(shop.runner("lineage", "raw_data.users.age", "--json"))
    assert found["downstream"] == ["stg_shop__users.age_years", "user_demographics.age_years"]
    assert "user_demographics" in found["readers"]
    assert "recipes/rf.yaml" in {recipe["name"] for recipe in found["recipes"]}
    [first] = [v for v in found["model_versions"] if v["name"] == "category_purchase_rf/1"]
    assert first["uses"] == {"raw_data.users.age": "raw", "user_demographics.age_years": "feature"}
    assert found["unresolved"] == {}


def test_an_unknown_column_is_refused_with_the_nearest_name(shop):
    assert "'user_activity.orders_7d'" in shop.refused("lineage", "user_activty.orders_7d")
    assert "'amount'" in shop.refused("lineage", "raw_data.orders.amout")
    assert "'orders_7d'" in shop.refused("lineage", "user_activity:orders_7")
    assert "'recipes/rf.yaml'" in shop.refused("lineage", "recipes/rff.yaml")
    assert "user_activity.orders_7d" in shop.refused("lineage", "user_activity")


def test_a_served_model_tells_the_raw_columns_of_its_features(serving):
    lineage = httpx.get(f"{serving.address}/model").json()["lineage"]
    assert lineage["raw_columns"]["user_demographics:age_years"] == ["raw_data.users.age"]
    assert lineage["raw_columns"].keys() == set(lineage["features"])
    assert "raw_columns_unresolved" not in lineage


def test_the_run_of_the_served_model_carries_the_same_lineage(shop, serving):
    told = httpx.get(f"{serving.address}/model").json()
    run = MlflowClient(shop.settings.mlflow_tracking_uri).get_run(told["run_id"])
    bundle = json.loads(
        (
            Path(run.info.artifact_uri.removeprefix("file://")) / "serving_bundle/serving.json"
        ).read_bytes()
    )
    assert bundle["lineage"] == told["lineage"]
    for digest in ("dbt_manifest_sha256", "dataset_sha256", "git_commit"):
        assert run.data.tags[digest] == told["lineage"][digest]
    recipe = {"user_demographics", "user_activity", "user_category_affinity"}
    assert {feature.partition(":")[0] for feature in told["lineage"]["features"]} == recipe


def test_bare_dbt_shows_recipes_and_endpoints_with_their_champion(shop):
    before = load_manifest(shop.settings.manifest_path).sha256
    assert shop.run("dbt", "parse", "--target", "local").returncode == 0
    manifest = json.loads(shop.settings.manifest_path.read_bytes())
    recipe, endpoint = (
        manifest["exposures"][f"exposure.shop.{kind}_rf"] for kind in ("recipe", "endpoint")
    )
    assert "spine_category_purchase" in recipe["meta"]["reads"]
    assert "user_activity" in endpoint["meta"]["reads"]
    assert recipe["owner"]["email"] == "growth@shop.example"
    assert recipe["meta"]["champion_version"]
    assert 0.5 < recipe["meta"]["metrics"]["test_roc_auc"] < 1
    assert load_manifest(shop.settings.manifest_path).sha256 == before


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_a_browser_goes_from_a_recipe_to_a_feature_mart_to_its_source(shop, tmp_path):
    port = free_port()
    command = [warm.program("runner"), "docs", "--port", str(port)]
    with subprocess.Popen(command, cwd=shop.root, env=shop.env) as server:
        try:
            wait_for_http(server, f"http://127.0.0.1:{port}/manifest.json")
            with page(tmp_path) as docs:
                docs.open(f"http://127.0.0.1:{port}")
                docs.wait_for("The shop, from raw tables to predictions")
                docs.wait_for("growth@shop.example")
                docs.picture(tmp_path / "0-overview.png")
                docs.click("td a", "category_purchase_rf")
                docs.wait_for("Champion: version")
                docs.open(f"http://127.0.0.1:{port}")
                docs.click("a", "ML")
                docs.click("a", "category_purchase_rf")
                docs.wait_for("recipes/rf.yaml")
                docs.picture(tmp_path / "1-recipe.png")
                docs.click("a", "user_demographics")
                docs.wait_for("From `raw_data.users.age`.")
                docs.picture(tmp_path / "2-feature-mart.png")
                docs.click("a", "stg_shop__users")
                docs.wait_for("stg_shop__users view")
                docs.click("a", "users")
                docs.wait_for("users source table")
                docs.picture(tmp_path / "3-source.png")
        finally:
            server.terminate()
    pictures = sorted(tmp_path.glob("*.png"))
    assert len({picture.read_bytes() for picture in pictures}) == 4

"""Column lineage with the real command, on the demo shop."""

import json
import re

import httpx
import pytest

from tests.e2e.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "lineage.md").read_text()
EXAMPLES = re.findall(r"^\$ runner (lineage .*)\n((?:[^$`].*\n)*)", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("command", "shown"), EXAMPLES, ids=[example[0] for example in EXAMPLES])
def test_the_page_shows_what_the_command_prints(shop, command, shown):
    printed = shop.runner(*command.split()).splitlines()
    assert [line for line in shown.splitlines() if line not in printed] == []


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


def test_a_served_model_tells_the_raw_columns_of_its_features(serving):
    lineage = httpx.get(f"{serving.address}/model").json()["lineage"]
    assert lineage["raw_columns"]["user_demographics:age_years"] == ["raw_data.users.age"]
    assert lineage["raw_columns"].keys() == set(lineage["features"])
    assert "raw_columns_unresolved" not in lineage

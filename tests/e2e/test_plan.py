"""`runner plan` and `runner doctor` on the shop, once it is trained."""

import json
import re

from tests.conftest import free_port


def test_the_plan_has_postgresqls_estimate_of_every_step(shop):
    before = shop.query("select count(*) from feature_mart.user_activity")
    planned = json.loads(shop.runner("plan", "recipes/rf.yaml", "--json"))
    steps = {(step["kind"], step["name"]): step for step in planned["steps"]}
    assert planned["complete"]
    assert planned["total_usd"] is None
    kinds = [step["kind"] for step in planned["steps"]]
    assert kinds[-5:] == ["split", "join", "materialize", "materialize", "materialize"]
    assert ("dbt model", "stg_shop__categories") not in steps  # the recipe does not need it
    spine = shop.query("select count(*) from spine_data.spine_category_purchase")[0][0]
    assert steps["join", "spine_category_purchase"]["rows"] > spine / 2
    assert "lateral" in steps["join", "spine_category_purchase"]["sql"][0].lower()
    assert shop.query("select count(*) from feature_mart.user_activity") == before


def test_postgresql_has_no_price_which_is_told_before_anything_is_asked(shop):
    told = shop.refused("plan", "recipes/rf.yaml", "--max-cost", "1", PGPORT=str(free_port()))
    assert "error: --max-cost: PostgreSQL bills nothing" in told


def test_a_trained_shop_is_well(shop):
    done = shop.run("runner", "doctor", "--json")
    found = {finding["check"]: finding for finding in json.loads(done.stdout)}
    # Whatever listens at the serving port of the machine that tests is not the tests' business.
    assert [f for f in found.values() if not f["is_ok"] and f["check"] != "serving port"] == []
    # Another module may have trained the other recipe in the same shop.
    assert found["champions"]["message"].startswith("intact: category_purchase_rf version 1")
    assert "user_activity" in found["Feast's registry"]["message"]
    assert re.fullmatch(r"sqlite:.*: \d+ registered models?", found["MLflow"]["message"])

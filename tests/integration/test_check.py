"""`runner check` on the shop's own project: dbt really parses it, and no server is up."""

import re

import pytest

from contract.redis_address import RedisAddress
from runner.settings import PostgresAddress
from tests.e2e.conftest import REPOSITORY, copy_project

PAGE = (REPOSITORY / "docs" / "recipe.md").read_text()

WRONG = """\
registered_model_name: wrong
experiment_name: wrong
task: classification
spine: spine_category_purchase
label: is_purchase
features: ["user_demographics:*", "user_activity:orders_7"]
split: {test: 28d, embargo: 1d}
estimator:
  class_path: sklearn.ensemble.RandomForestClassifier
  init_args: {n_estimator: 100, max_depth: deep}
scoring: [roc_auc]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project whose addresses nobody answers at."""
    return copy_project(
        tmp_path_factory.mktemp("check"),
        PostgresAddress("127.0.0.1", 1, "nobody", "unused", "none"),
        RedisAddress.from_url("redis://127.0.0.1:1/0"),
    )


def problems(done):
    """The lines of stdout that name a place."""
    return [line for line in done.stdout.splitlines() if not line.startswith("  hint: ")]


def test_the_recipes_of_the_project_are_right(project):
    printed = project.runner("check").splitlines()
    names = sorted(path.name for path in (project.root / "recipes").glob("*.yaml"))
    assert printed == [f"recipes/{name}: OK" for name in names]


def test_the_page_shows_what_is_said_of_its_recipe_when_a_feature_is_misspelt(project):
    [recipe] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    [shown] = re.findall(r"^\$ runner check\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
    path = project.root / "recipes/rf.yaml"
    before = path.read_text()
    path.write_text(recipe.replace("orders_7d", "orders_7"))
    try:
        printed = project.run("runner", "check").stdout
    finally:
        path.write_text(before)
    for line in shown.splitlines():
        assert line.removesuffix("…") in printed


def test_every_mistake_of_every_recipe_is_told_and_the_exit_code_is_1(project):
    (project.root / "wrong.yaml").write_text(WRONG)
    (project.root / "keys.yaml").write_text(WRONG.replace("task: classification", "task: x"))
    done = project.run("runner", "check", "wrong.yaml", "recipes/rf.yaml", "keys.yaml", "no.yaml")
    assert done.returncode == 1, done.stderr
    assert [line.partition(" (did")[0] for line in problems(done)] == [
        "wrong.yaml:5:1: label: spine_category_purchase has no label 'is_purchase'",
        "wrong.yaml:6:35: features[1]: user_activity has no feature 'orders_7'",
        (
            "wrong.yaml:10:15: estimator.init_args.n_estimator: RandomForestClassifier has no such "
            "argument"
        ),
        (
            "wrong.yaml:10:33: estimator.init_args.max_depth: expected an int in the range "
            "[1, inf) or null, got 'deep'"
        ),
        "recipes/rf.yaml: OK",
        "keys.yaml:3:1: task: expected 'classification' or 'regression', got 'x'",
        "keys.yaml:6:35: features[1]: user_activity has no feature 'orders_7'",
        "no.yaml: no such file",
    ]
    assert done.stdout.count("  hint: ") == 7


def test_a_feature_that_the_sql_no_longer_has_is_not_right_by_an_old_manifest(project):
    project.runner("check", "recipes/spend.yaml")
    path = project.root / "dbt_project/models/feature_mart/user_demographics.yml"
    text = path.read_text()
    path.write_text(text.replace("user_demographics", "user_people"))
    sql = path.with_suffix(".sql").rename(path.with_name("user_people.sql"))
    try:
        done = project.run("runner", "check", "recipes/rf.yaml")
    finally:
        path.write_text(text)
        sql.rename(path.with_suffix(".sql"))
    assert done.returncode == 1
    assert "features[0]: no dbt model 'user_demographics'" in done.stdout


def test_a_wrong_mart_is_told_with_its_line_and_recipes_without_it_are_right(project):
    path = project.root / "dbt_project/models/feature_mart/user_category_affinity.yml"
    text = path.read_text()
    path.write_text(text.replace("- name: views_7d", "- name: Views"))
    line = text[: text.index("- name: views_7d")].count("\n") + 1
    try:
        done = project.run("runner", "check")
        named = project.run("runner", "check", "recipes/spend.yaml")
    finally:
        path.write_text(text)
    told = (
        f"{path.relative_to(project.root)}:{line}: user_category_affinity: column Views has upper"
    )
    assert done.returncode == 1
    assert done.stdout.startswith(told)
    assert f"recipes/rf.yaml:9:54: features[2]: {told}" in done.stdout
    assert "write views, or quote the column in the SQL and set `quote: true`" in done.stdout
    assert "recipes/spend.yaml: OK\n" in done.stdout
    assert named.stdout == "recipes/spend.yaml: OK\n"


def test_a_dbt_model_that_recipes_take_from_and_that_is_disabled_is_told(project):
    project.runner("check")
    sql = project.root / "dbt_project/models/feature_mart/user_category_affinity.sql"
    text = sql.read_text()
    sql.write_text("{{ config(enabled=false) }}" + text)
    try:
        first, second = (project.run("runner", "check") for _ in range(2))
    finally:
        sql.write_text(text)
    assert first.returncode == second.returncode == 1
    assert first.stdout == second.stdout
    problem = "features[2]: the dbt model 'user_category_affinity' is disabled in dbt\n"
    assert f"recipes/rf.yaml:9:54: {problem}" in first.stdout
    assert "hint: enable it in dbt (`enabled: true`), or take it out of" in first.stdout
    assert "recipes/spend.yaml: OK\n" in first.stdout
    project.runner("check")  # enabled again


def test_a_project_without_recipes_is_told(project):
    (project.root / "recipes").rename(project.root / "elsewhere")
    try:
        assert "recipes: no recipe" in project.refused("check")
    finally:
        (project.root / "elsewhere").rename(project.root / "recipes")


SPINES = ["spine_category_purchase", "spine_cross_sell", "spine_user_spend"]


@pytest.mark.parametrize("spine", SPINES)
def test_a_new_recipe_is_right_at_once(project, spine):
    printed = project.runner("new", spine, "--spine", spine)
    assert printed == f"recipes/{spine}.yaml: written\n"
    try:
        assert project.runner("check", f"recipes/{spine}.yaml").endswith(": OK\n")
        assert f"recipes/{spine}.yaml exists" in project.refused("new", spine, "--spine", spine)
    finally:
        (project.root / f"recipes/{spine}.yaml").unlink()


def test_a_new_recipe_asks_for_the_spine_by_listing_them(project):
    told = project.refused("new", "x")
    assert f"there are 3 spines: {', '.join(SPINES)}" in told
    assert not (project.root / "recipes/x.yaml").exists()

"""What `runner new` writes for a spine."""

import dataclasses
from datetime import timedelta

import pytest

from runner.commands.training import new_recipe
from runner.commands.training.new_recipe import recipe_text
from runner.errors import RunnerError
from runner.recipes.arguments import argument_problems
from runner.recipes.recipe import load_recipe
from runner.recipes.references import manifest_problems
from tests.unit.test_recipe_references import MARTS, SPINES, manifest

SPINE = SPINES[0]


@pytest.mark.parametrize(
    ("label", "estimator"),
    [
        ("is_purchase_7d", "RandomForestClassifier"),
        ("n_orders_7d", "RandomForestClassifier"),
        ("kind", "RandomForestClassifier"),
        ("spend_7d", "RandomForestRegressor"),
    ],
)
def test_it_passes_the_check_whatever_the_label_is(tmp_path, label, estimator):
    (tmp_path / "x.yaml").write_text(recipe_text("x", manifest(), SPINE, label))
    recipe = load_recipe(tmp_path / "x.yaml")
    assert [*manifest_problems(recipe, manifest()), *argument_problems(recipe)] == []
    assert recipe.estimator.class_path.endswith(estimator)
    assert recipe.split.embargo == SPINE.labels[label]


def test_it_lists_what_joins(tmp_path):
    (tmp_path / "x.yaml").write_text(recipe_text("x", manifest(), SPINE, "kind"))
    features = load_recipe(tmp_path / "x.yaml").features
    assert features == ("user_demographics:*", "user_activity:*", "calendar:*")


def test_further_columns_of_the_spine_are_offered_as_request_inputs():
    columns = {key: SPINE.columns[key] for key in (*SPINE.join_keys, "kind")}
    columns["basket_usd"] = SPINE.columns["spend_7d"]
    spine = dataclasses.replace(SPINE, columns=columns)
    assert "\n# request: [basket_usd]\n" in recipe_text("x", manifest(), spine, "kind")


def test_what_is_not_online_is_left_out():
    offline = [dataclasses.replace(mart, online=False) for mart in MARTS]
    with pytest.raises(RunnerError, match="no feature mart joins to spine_category_purchase by"):
        recipe_text("x", manifest(offline), SPINE, "kind")


def test_every_key_has_a_comment_of_its_own_and_no_line_is_long():
    lines = recipe_text("x", manifest(), SPINE, "kind").splitlines()
    assert lines[0] == "# yaml-language-server: $schema=../schemas/recipe.schema.json"
    keys = [i for i, line in enumerate(lines) if line[:1].isalpha()]
    assert [lines[i] for i in keys if not lines[i - 1].startswith("# ")] == []
    assert max(map(len, lines)) <= 100


def test_a_label_that_is_a_time_is_refused():
    with pytest.raises(RunnerError, match="bought_at is timestamp, which is no label"):
        recipe_text("x", manifest(), SPINE, "bought_at")


def test_a_window_of_no_length_is_an_embargo_of_none():
    at_once = dataclasses.replace(SPINE, labels={"kind": timedelta(0)})
    assert "embargo: 0s}" in recipe_text("x", manifest(), at_once, "kind")


def test_the_only_one_is_chosen_and_several_are_listed():
    assert new_recipe._choose("label", None, ["a"]) == "a"
    assert new_recipe._choose("label", "b", ["a", "b"]) == "b"
    with pytest.raises(RunnerError, match="there are 2 labels: a, b") as several:
        new_recipe._choose("label", None, ["b", "a"])
    assert several.value.hint == "choose one with --label"
    with pytest.raises(RunnerError, match="no spine 'spine_x'"):
        new_recipe._choose("spine", "spine_x", ["spine_y"])
    with pytest.raises(RunnerError, match="there is no spine"):
        new_recipe._choose("spine", None, [])


@pytest.mark.parametrize("name", ["", "../x", "a.b", "7up", "a b"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path, name):
    with pytest.raises(RunnerError, match="no name for a recipe"):
        new_recipe._new_path(tmp_path, name)


def test_a_recipe_that_exists_is_never_overwritten(tmp_path):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/x.yaml").write_text("mine")
    with pytest.raises(RunnerError, match=r"x\.yaml exists"):
        new_recipe._new_path(tmp_path, "x")

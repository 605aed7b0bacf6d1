"""A path that is no recipe is refused with the one that may have been meant."""

from __future__ import annotations

import pytest

from runner.errors import RunnerError
from runner.recipes.recipe import load_recipe
from tests.recipe_files import load, recipe_text


@pytest.mark.parametrize("name", ["rf", "rf.txt", ".yaml", "a b.yaml", "-x.yaml", "recipes.d"])
def test_a_file_name_that_no_feature_service_could_have_is_refused(tmp_path, name):
    (tmp_path / name).write_text(recipe_text())
    with pytest.raises(RunnerError, match="not a recipe's file name"):
        load_recipe(tmp_path / name)


def test_a_missing_recipe_is_looked_for_beside_it(tmp_path):
    load(tmp_path, recipe_text())
    with pytest.raises(RunnerError) as refused:
        load_recipe(tmp_path / "rff.yaml")
    there = tmp_path / "rf.yaml"
    assert refused.value.message.endswith(f"rff.yaml: no such file (did you mean '{there}'?)")
    assert refused.value.hint == f"recipes there: {there}; `runner new NAME` writes one"
    with pytest.raises(RunnerError, match=r"no such file$") as refused:
        load_recipe(tmp_path / "none" / "rf.yaml")
    assert "recipes there: none" in refused.value.hint


@pytest.mark.parametrize("name", ["rf", "rf.yaml", "rf.yml", "recipes/rf"])
def test_a_recipe_may_be_meant_by_less_than_its_path(tmp_path, name):
    (tmp_path / "recipes").mkdir()
    there = tmp_path / "recipes" / "rf.yaml"
    there.write_text(recipe_text())
    with pytest.raises(RunnerError) as refused:
        load_recipe(tmp_path / name)
    assert refused.value.message == f"{tmp_path / name}: no such file (did you mean '{there}'?)"


def test_a_folder_is_no_recipe(tmp_path):
    load(tmp_path, recipe_text())
    with pytest.raises(RunnerError, match=r"a folder, not a recipe$") as refused:
        load_recipe(tmp_path)
    assert refused.value.hint.startswith(f"recipes there: {tmp_path / 'rf.yaml'};")

"""Any recipe is read or refused; one that is read can be dumped and read again."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import RunnerError
from runner.recipes.recipe import Recipe, load_recipe
from runner.recipes.schema import recipe_schema
from tests.drawn_recipes import WHOLE, arguments, recipes, spoiled
from tests.recipe_files import load

SCHEMA = jsonschema.Draft202012Validator(recipe_schema())


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("recipes")


@given(recipes())
@settings(max_examples=50)
def test_what_is_dumped_loads_as_itself_and_fits_the_schema(folder, content):
    dumped = load(folder, json.dumps(content)).dump()
    assert load(folder, json.dumps(dumped)).dump() == dumped
    # Durations are dumped in their largest unit.
    durations = {"split", "preprocessing", "calibration", "decision_threshold", "tuning"}
    for key in content.keys() - durations:
        assert dumped[key] == content[key]
    SCHEMA.validate(content)
    SCHEMA.validate(dumped)


@given(spoiled)
def test_a_spoiled_recipe_is_read_or_refused(folder, content):
    (folder / "rf.yaml").write_bytes(content)
    read_or_refused(folder)


def test_the_recipe_to_spoil_has_every_key(folder):
    recipe = load(folder, "\n".join(WHOLE))
    assert recipe.model_fields_set == Recipe.model_fields.keys()


@given(recipes(), st.data())
def test_a_recipe_with_any_value_anywhere_is_read_or_refused(folder, content, data):
    inside, depth = content, data.draw(st.integers(1, 4))
    while depth and isinstance(inside, dict | list) and inside:
        keys = list(inside) if isinstance(inside, dict) else range(len(inside))
        key = data.draw(st.sampled_from(keys))
        holder, inside, depth = inside, inside[key], depth - 1
    holder[key] = data.draw(arguments)
    (folder / "rf.yaml").write_text(json.dumps(content))
    read_or_refused(folder)


def read_or_refused(folder):
    try:
        load_recipe(folder / "rf.yaml").dump()
    except RunnerError as refused:
        problems = refused.message.replace(f"{folder}/", "").split("; rf.yaml:")
        assert all(re.match(r"(rf\.yaml:)?[1-9]\d*:[1-9]\d*: \S", each) for each in problems)

"""The recipe's schema and docs/recipe.md describe the keys there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_origin

import jsonschema
import pytest
from pydantic import BaseModel

from runner.recipes.estimators import ESTIMATORS, SCORERS, names_of
from runner.recipes.keys_table import recipe_reference, renew
from runner.recipes.problems import keys_of, part_in
from runner.recipes.recipe import Recipe
from runner.recipes.schema import recipe_schema
from runner.recipes.yaml_source import load_yaml
from tests.recipe_files import load, recipe_text

ROOT = Path(__file__).resolve().parents[2]
DOCS = (ROOT / "docs" / "recipe.md").read_text()
SCHEMA = jsonschema.Draft202012Validator(recipe_schema())


OF_THE_SCHEMA = [
    {4: "task: classify"},
    {1: None},
    {3: "descripton: x"},
    {7: "features: []"},
    {7: "features: []", 17: "request: []"},
    {17: "request: [a b]"},
    {17: "on_missing_entity: maybe"},
    {17: "on_missing_entity: {user_activity: maybe}"},
    {7: "features: [user_activity]"},
    {8: "split: {test: 28, embargo: 7d}"},
    {11: "  categorical: {min_frequency: 0}"},
    {13: "  class_path: os.system"},
    {15: "scoring: [log_loss]"},
    {16: "gate: {log_loss: 1}"},
    {17: "calibration: {method: platt, period: 14d}"},
    {17: "decision_threshold: {}"},
    {17: "decision_threshold: {value: 2}"},
    {17: "decision_threshold: {maximize: f1}"},
    {17: "decision_threshold: {maximize: roc_auc, period: 14d}"},
    {17: "slices: [category id]"},
    {17: "tuning: {n_trials: 9}"},
    {17: "tuning: {n_trials: 9, search_space: {max_depth: {int: [2]}}}"},
    {17: "tuning: {n_trials: 9, search_space: {max_depth: {log: true}}}"},
    {17: "tuning: {n_trials: 9, search_space: {max_depth: {int: [2, 9], choice: [2]}}}"},
]


@pytest.mark.parametrize("changes", OF_THE_SCHEMA)
def test_the_schema_refuses_what_one_key_shows_wrong(tmp_path, changes):
    (tmp_path / "x.yaml").write_text(recipe_text(changes))
    content = load_yaml(tmp_path / "x.yaml").data
    with pytest.raises(jsonschema.ValidationError):
        SCHEMA.validate(content)


def test_the_published_schema_is_in_step():
    published = json.loads((ROOT / "schemas" / "recipe.schema.json").read_text())
    assert published == recipe_schema(), (
        "python -m runner.recipes.schema > schemas/recipe.schema.json"
    )


def keys(model: type[BaseModel], prefix: str = ""):
    """Yield each key's dotted path with its field, parts before what they hold."""
    for name, field in keys_of(model).items():
        yield f"{prefix}{name}", field
        if part := part_in(field.annotation):
            users_own = "*." if get_origin(field.annotation) is dict else ""
            yield from keys(part, f"{prefix}{name}.{users_own}")


@pytest.mark.parametrize(
    ("key", "field"), [pytest.param(*each, id=each[0]) for each in keys(Recipe)]
)
def test_every_key_is_described_in_the_schema_and_in_the_docs(key, field):
    assert field.description
    row = re.search(rf"^\| `{re.escape(key)}` \|.*$", DOCS, re.MULTILINE)
    assert row, f"docs/recipe.md has no row for {key}"
    default = row[0].split("|")[-2].strip()
    assert (default == "required") == field.is_required()
    if isinstance(field.default, str | int) and field.default:
        assert default == f"`{field.default}`"


def test_the_table_of_keys_is_made_from_the_schema(tmp_path):
    page = tmp_path / "recipe.md"
    page.write_text(DOCS.replace("| `label` | text |", "| `label` | by hand |"))
    assert page.read_text() != DOCS
    renew(page)
    assert page.read_text() == DOCS, "python -m runner.recipes.keys_table docs/recipe.md"
    assert DOCS.count(recipe_reference()) == 1


def test_the_docs_list_the_estimators_and_scorers_there_are():
    rows = re.findall(r"^\| `(.*)` \| (\w+) \| (yes|no) \| (yes|no) \|$", DOCS, re.MULTILINE)
    flags = {True: "yes", False: "no"}
    assert rows == [
        (each.class_path, each.task, flags[each.scaled], flags[each.onnx])
        for each in ESTIMATORS.values()
    ]
    for task in ("classification", "regression"):
        listed = re.search(rf"^For `{task}`: (.*?)\.", DOCS, re.MULTILINE | re.DOTALL)[1]
        assert re.findall(r"`(\w+)`", listed) == names_of(SCORERS, task)


def test_the_examples_in_the_docs_are_right_recipes(tmp_path):
    examples = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    assert examples
    for example in examples:
        load(tmp_path, example)

"""Request inputs and roles of a recipe, held against what dbt knows."""

from __future__ import annotations

import dataclasses

import pytest

from runner.errors import RunnerError
from runner.feature_store.feast_objects import feast_objects
from runner.feature_store.recipe_features import recipe_features, request_inputs
from runner.project.mart_rules import spine_problems
from runner.recipes.feature_reference import FeatureReference
from runner.recipes.recipe import load_recipe
from runner.recipes.references import check_references
from runner.recipes.spine_columns import spine_columns
from tests.recipe_files import recipe_text
from tests.unit.test_recipe_references import MARTS, SPINES, columns, manifest, mart

[BASE] = SPINES
FILE = BASE.file
GIFT = dataclasses.replace(
    BASE,
    roles={"giver": "user", "taker": "user", "kind_of": "category"},
    entities={},
    columns={
        **BASE.columns,
        **columns(giver="int64", taker="int64", kind_of="int64", channel="string", at="timestamp"),
    },
)
PLAIN = [one for one in MARTS if one.name != "user_text_key"]
KNOWN = manifest([*PLAIN, mart("by_text", {"user": "user_id"}, user_id="string", x="bool")], [GIFT])


def recipe(tmp_path, features, **more):
    path = tmp_path / "rf.yaml"
    lines = {7: f"features: {features}"} | {int(key[1:]): text for key, text in more.items()}
    path.write_text(recipe_text(lines))
    return load_recipe(path)


def test_a_role_and_a_request_input_fit(tmp_path):
    features = '["user_demographics[giver]:age", "user_demographics[taker]:*"]'
    chosen = recipe(tmp_path, features, _17="request: [channel, segment]", _18="slices: [channel]")
    check_references(chosen, KNOWN)
    found = recipe_features(chosen, KNOWN)
    assert [one.column for one in found] == [
        *("giver__age", "taker__age", "taker__country", "taker__is_new")
    ]
    assert found[0].reference == "user_demographics[giver]:age"
    assert found[0].keys == (("user_id", "giver"),)
    assert [one.column for one in request_inputs(chosen, GIFT)] == ["channel", "segment"]
    keys = ["giver", "taker", "kind_of"]
    assert spine_columns(chosen, GIFT) == [
        *keys,
        *("event_timestamp", "is_purchase_7d", "channel", "segment"),
    ]


@pytest.mark.parametrize(
    ("features", "request_line", "told"),
    [
        ("[]", "request: [chanel]", ("request[0]: spine_category_purchase has no column 'chanel' "
         "(did you mean 'channel'?)")),
        ("[]", "request: [giver]", "request[0]: 'giver' is an entity key"),
        ("[]", "request: [spend_7d]", "request[0]: 'spend_7d' is a label"),
        ("[]", "request: [event_timestamp]", "request[0]: 'event_timestamp' is the time of the"),
        ("[]", "request: [channel, channel]", "request[1]: 'channel' is listed twice"),
        ("[]", "request: [prediction]", "request[0]: 'prediction' is the name of a column that"),
        ("[]", "request: []", "features: expected at least one entry"),
        ('["user_demographics:age"]', None, ("features[0]: user_demographics is by user, which "
         "spine_category_purchase has as giver and taker")),
        ('["user_demographics[takr]:age"]', None, "has no role 'takr' (did you mean 'taker'?)"),
        ('["user_demographics[kind_of]:age"]', None, ("'kind_of' is a role of category, and "
         "user_demographics is by user")),
        ('["by_text[giver]:x"]', None, ("features[0]: user_id, in the role giver, is string in "
         "by_text, but int64")),
        ('["affinity[taker]:n"]', None, ("affinity is by category, which spine_category_purchase "
         "has as kind_of")),
        ('["user_demographics[giver]:age", "user_activity[giver]:age"]', None,
         "features[1]: user_activity has no feature 'age'"),
        ('["user_demographics[]:age"]', None, "features[0]: expected `view:feature`"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_its_place(tmp_path, features, request_line, told):
    more = {} if request_line is None else {"_17": request_line}
    with pytest.raises(RunnerError) as refused:
        check_references(recipe(tmp_path, features, **more), KNOWN)
    assert told in refused.value.message


def test_two_marts_in_one_role_with_a_feature_of_one_name_are_refused(tmp_path):
    other = mart("user_age", {"user": "user_id"}, user_id="int64", age="int64")
    features = '["user_demographics[giver]:age", "user_age[giver]:age"]'
    with pytest.raises(RunnerError, match=r"would both be giver__age in training rows"):
        check_references(recipe(tmp_path, features), manifest([*PLAIN, other], [GIFT]))


def test_feast_s_service_has_a_view_by_its_role_and_its_keys(tmp_path):
    features = '["user_demographics[giver]:age", "user_activity[taker]:orders_7d"]'
    [*_, service] = feast_objects(manifest(PLAIN, [GIFT]), [recipe(tmp_path, features)])
    projections = service.feature_view_projections
    assert [one.name_to_use() for one in projections] == ["giver", "taker"]
    assert [one.join_key_map for one in projections] == [{"user_id": "giver"}, {"user_id": "taker"}]


def node(entities, *names):
    described = {
        name: {"name": name, "data_type": "bigint", "description": ""}
        for name in (*names, "is_late")
    }
    described["event_timestamp"] = {"name": "event_timestamp", "data_type": "timestamp"}
    meta = {"entities": entities, "labels": {"is_late": "1d"}}
    return {"name": "spine_x", "columns": described, "config": {"meta": meta}}


UNKNOWN = "which is not described"


@pytest.mark.parametrize(
    ("entities", "told"),
    [
        ({"sender": "account", "receiver": "account"}, None),
        ({"account": "sender"}, None),
        ({}, None),
        ({"sendr": "account"}, f"sendr: account needs a column 'sendr', {UNKNOWN} (did you mean"),
        ({"sender": "acount"}, "sender: no feature mart has an entity 'acount' (did you mean"),
        ({"account": "account_id"}, f"account needs a column 'account_id', {UNKNOWN}"),
    ],
)
def test_a_spine_s_roles_are_columns_and_entities_of_marts(entities, told):
    problems = list(spine_problems(node(entities, "sender", "receiver"), {"account"}))
    assert len(problems) == (0 if told is None else 1)
    assert all(problem.message.startswith(f"meta.entities.{told}") for problem in problems)


@pytest.mark.parametrize(
    "text", ["view:feature", "view:*", "view[role]:feature", "view[role]:*", "v_1[r_2]:f_3"]
)
def test_a_reference_is_written_as_it_is_read(text):
    assert str(FeatureReference.parse(text)) == text

"""A recipe's references held against what dbt knows."""

from __future__ import annotations

import dataclasses
import re
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given

from runner.commands.training.checking import recipe_errors
from runner.errors import RunnerError
from runner.project.manifest import FeatureMart, Manifest, MartColumn, Spine
from runner.recipes.recipe import load_recipe
from runner.recipes.references import check_references
from tests.drawn_recipes import spoiled
from tests.recipe_files import recipe_text


def columns(**dtypes):
    return {name: MartColumn(name, dtype, "") for name, dtype in dtypes.items()}


def relation(name, folder, entities, **dtypes):
    return {
        "name": name,
        "database": "shop",
        "schema": folder,
        "alias": name,
        "description": "",
        "file": f"models/{folder}/{name}.yml",
        "owner": "",
        "tags": (),
        "entities": entities,
        "columns": columns(**dtypes),
        "compiled_code": None,
    }


def mart(name, entities, **dtypes):
    return FeatureMart(
        **relation(name, "feature_mart", entities, **dtypes, event_timestamp="timestamp"),
        ttl=None,
        timestamp_field="event_timestamp",
        created_timestamp_column=None,
        online=True,
    )


def spine(name, labels, **dtypes):
    return Spine(
        **relation(name, "spine_data", {"user": "user_id"}, **dtypes, event_timestamp="timestamp"),
        labels={label: timedelta(days=7) for label in labels},
    )


USER = {"user": "user_id"}
MARTS = [
    mart("user_demographics", USER, user_id="int64", age="int32", country="string", is_new="bool"),
    mart("user_activity", USER, user_id="int64", orders_7d="int64", last_order_at="timestamp"),
    mart("user_text_key", USER, user_id="string", score="float64"),
    mart(
        "affinity",
        {**USER, "category": "category_id"},
        user_id="int64",
        category_id="int64",
        n="int64",
    ),
    mart("calendar", {}, is_holiday="bool"),
]
SPINES = [
    spine(
        "spine_category_purchase",
        ["is_purchase_7d", "n_orders_7d", "spend_7d", "kind", "bought_at"],
        user_id="int64",
        is_purchase_7d="bool",
        n_orders_7d="int64",
        spend_7d="float64",
        kind="string",
        bought_at="timestamp",
        segment="string",
    )
]


def manifest(marts=MARTS, spines=SPINES):
    return Manifest(
        path=Path("nowhere/target/manifest.json"),
        project_name="shop",
        marts={each.name: each for each in marts},
        spines={each.name: each for each in spines},
        sha256="0" * 64,
    )


REGRESSION = {
    4: "task: regression",
    13: "  class_path: sklearn.linear_model.Ridge",
    14: None,
    15: "scoring: [r2]",
    16: None,
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("recipes")


@pytest.fixture
def check(tmp_path):
    def check_recipe(changes, known=None):
        path = tmp_path / "rf.yaml"
        path.write_text(recipe_text(changes))
        check_references(load_recipe(path), known or manifest())

    return check_recipe


@pytest.fixture
def refusal(check, tmp_path):
    def refuse(changes, known=None):
        with pytest.raises(RunnerError) as refused:
            check(changes, known)
        return refused.value.message.replace(f"{tmp_path}/", ""), refused.value.hint

    return refuse


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {7: 'features: ["user_demographics:age", "user_demographics:is_new"]'},
        {7: 'features: ["calendar:*"]'},
        {6: "label: kind"},
        {6: "label: n_orders_7d"},
        {**REGRESSION, 6: "label: n_orders_7d"},
        {**REGRESSION, 6: "label: spend_7d"},
        {8: "split: {test: 1d, embargo: 168h}"},
        {17: "slices: [user_id, segment, n_orders_7d]"},
        {
            7: 'features: ["user_demographics:*", "calendar:is_holiday"]',
            17: 'slices: ["user_demographics:country", "calendar:is_holiday"]',
        },
        {17: 'feature_overrides: ["user_demographics:*", "user_activity:orders_7d"]'},
        {17: 'feature_overrides: ["user_demographics:country"]'},
    ],
)
def test_a_recipe_that_fits_passes(check, changes):
    check(changes)


SPINE = "models/spine_data/spine_category_purchase.yml"


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        (
            {5: "spine: spine_category_purchases"},
            (
                "5:1: spine: no dbt model 'spine_category_purchases' in a folder spine_data (did "
                "you mean 'spine_category_purchase'?)"
            ),
            "choose one of spine_category_purchase",
        ),
        (
            {5: "spine: xyz"},
            "5:1: spine: no dbt model 'xyz' in a folder spine_data",
            "choose one of spine_category_purchase",
        ),
        (
            {6: "label: is_purchase"},
            (
                "6:1: label: spine_category_purchase has no label 'is_purchase' (did you mean "
                "'is_purchase_7d'?)"
            ),
            "choose one of is_purchase_7d, n_orders_7d, spend_7d, kind, bought_at",
        ),
        (
            {6: "label: segment"},
            (
                "6:1: label: 'segment' is a column of spine_category_purchase, but not among its "
                "meta.labels"
            ),
            f"declare it in {SPINE}, such as `labels: {{segment: 7d}}`",
        ),
        (
            {6: "label: spend_7d"},
            (
                "6:1: label: 'spend_7d' is float64 in spine_category_purchase, which is no label "
                "for classification"
            ),
            f"cast it in the spine's SQL ({SPINE}), or change the task",
        ),
        (
            {6: "label: bought_at"},
            (
                "6:1: label: 'bought_at' is timestamp in spine_category_purchase, which is no "
                "label for classification"
            ),
            f"cast it in the spine's SQL ({SPINE}), or change the task",
        ),
        (
            {**REGRESSION, 6: "label: kind"},
            (
                "6:1: label: 'kind' is string in spine_category_purchase, which is no label for "
                "regression"
            ),
            f"cast it in the spine's SQL ({SPINE}), or change the task",
        ),
        (
            REGRESSION,
            (
                "6:1: label: 'is_purchase_7d' is bool in spine_category_purchase, which is no "
                "label for regression"
            ),
            f"cast it in the spine's SQL ({SPINE}), or change the task",
        ),
        (
            {8: "split: {test: 28d, embargo: 6d}"},
            (
                f"8:20: split.embargo: shorter than the label's window, 7d ({SPINE}): training "
                "labels would be decided in the test period"
            ),
            "set split.embargo to 7d or more",
        ),
        (
            {7: 'features: ["user_activities:*"]'},
            (
                "7:12: features[0]: no dbt model 'user_activities' in a folder feature_mart (did "
                "you mean 'user_activity'?)"
            ),
            "choose one of user_demographics, user_activity, user_text_key, affinity, calendar",
        ),
        (
            {7: 'features: ["user_activity:orders"]'},
            "7:12: features[0]: user_activity has no feature 'orders' (did you mean 'orders_7d'?)",
            "choose one of orders_7d, last_order_at",
        ),
        (
            {7: 'features: ["user_activity:user_id"]'},
            "7:12: features[0]: user_activity has no feature 'user_id'",
            "choose one of orders_7d, last_order_at",
        ),
        (
            {7: 'features: ["affinity:n"]'},
            (
                "7:12: features[0]: affinity is by category (category_id), which the spine "
                "spine_category_purchase does not have"
            ),
            f"add category_id to the spine and its meta.entities ({SPINE}), or drop the feature",
        ),
        (
            {7: 'features: ["user_text_key:score"]'},
            (
                "7:12: features[0]: user_id is string in user_text_key, but int64 in the spine "
                "spine_category_purchase"
            ),
            "cast one of them in its SQL",
        ),
        (
            {17: "slices: [segmnt]"},
            (
                "17:10: slices[0]: spine_category_purchase has no column 'segmnt' (did you mean "
                "'segment'?)"
            ),
            (
                "choose one of user_id, is_purchase_7d, n_orders_7d, spend_7d, kind, bought_at, "
                "segment, event_timestamp"
            ),
        ),
        (
            {17: "slices: [is_purchase_7d]"},
            (
                "17:10: slices[0]: 'is_purchase_7d' is the label: rows of one label are no test of "
                "a model"
            ),
            "name another column, or a feature",
        ),
        (
            {17: "slices: [segment, spend_7d]"},
            ("17:19: slices[1]: 'spend_7d' is float64; slices are by text, flags or whole numbers"),
            f"cut it into bands in the SQL ({SPINE})",
        ),
        (
            {7: 'features: ["user_demographics:*"]', 17: 'slices: ["user_demographics:land"]'},
            "17:10: slices[0]: user_demographics has no feature 'land'",
            "choose one of age, country, is_new",
        ),
        (
            {17: 'feature_overrides: ["user_demographics:land"]'},
            "17:21: feature_overrides[0]: user_demographics has no feature 'land'",
            "choose one of age, country, is_new",
        ),
    ],
)
def test_a_reference_that_does_not_fit_is_told_with_its_place(refusal, changes, message, hint):
    assert refusal(changes) == (f"rf.yaml:{message}", hint)


def test_every_mistake_is_told_at_once_and_keys_once_per_view(refusal):
    features = 'features: ["affinity:n", "affinity:m", "x:*"]'
    message, hint = refusal({6: "label: x", 7: features, 8: "split: {test: 1d, embargo: 0d}"})
    assert [problem.split(": ")[1] for problem in message.split("; ")] == [
        "label",
        "features[0]",
        "features[1]",
        "features[2]",
    ]
    assert hint.startswith("correct these 4 places, which `runner check ")


def test_without_the_spine_features_are_checked_by_themselves(refusal):
    message, _ = refusal({5: "spine: x", 7: 'features: ["affinity:n", "affinity:m"]'})
    assert "affinity has no feature 'm'" in message
    assert "category_id" not in message


def test_a_project_without_spines_is_told_to_write_one(refusal):
    assert refusal({}, manifest(spines=[]))[1] == "write the dbt model first"


def test_a_mart_that_is_not_online_is_no_feature_of_a_served_model(refusal):
    offline = [dataclasses.replace(each, online=False) for each in MARTS]
    message, hint = refusal({7: 'features: ["user_demographics:age"]'}, manifest(marts=offline))
    assert "user_demographics is `online: false`" in message
    assert "models/feature_mart/user_demographics.yml" in hint


TOGETHER = [
    # A wrong key keeps nothing from being judged but what depends on it.
    (
        {3: "descripton: x", 6: "label: is_purchase", 7: 'features: ["user_activity:order_7d"]'},
        ["descripton: unknown key", "label: spine_", "features[0]: user_activity has no feature"],
    ),
    (
        {5: "spine: 7", 7: 'features: ["user_activty:*"]', 16: "gate: {f1: 0.5}"},
        ["spine: expected text", "features[0]: no dbt model 'user_activty'", "gate.f1: not among"],
    ),
    (
        {4: "task: x", 6: "label: none", 7: 'features: ["calender:*"]', 16: "gate: {f1: 0.5}"},
        ["task: expected", "features[0]: no dbt model 'calender'", "gate.f1: not among"],
    ),
    (
        {8: "split: {test: 28d}", 14: "  init_args: {n_estimator: 9}", 15: "scoring: [auc]"},
        [
            "split.embargo: missing",
            "estimator.init_args.n_estimator: RandomForestClassifier has no such argument",
            "scoring[0]: 'auc' is not on the list",
        ],
    ),
    (
        {
            13: "  class_path: sklearn.ensemble.RandomForest",
            7: 'features: ["user_activity:order_7d"]',
            17: "tuning: {n_trials: 1, search_space: {C: {float: [0.1, 1]}}}",
        },
        ["features[0]: user_activity has no feature", "estimator.class_path: 'sklearn"],
    ),
    (
        {6: None, 7: "features: []", 8: "split: {test: 1d, embargo: 1d}", 17: 'slices: ["a:b"]'},
        ["label: missing", "features: expected at least one"],
    ),
    (
        {1: None, 2: None, 3: None, 4: "task: regression", 7: "features: [affinity:n]"},
        [
            "registered_model_name: missing",
            "experiment_name: missing",
            "label: 'is_purchase_7d' is bool in spine_category_purchase, which is no label for",
            "features[0]: affinity is by category",
            "estimator.class_path: 'sklearn.ensemble.RandomForestClassifier' is not for regression",
            "scoring[0]: 'roc_auc' is not for regression",
            "scoring[1]: 'neg_log_loss' is not for regression",
        ],
    ),
    ({5: "spine: a: b", 7: "features: [x]"}, ["not valid YAML: mapping values"]),
    ({}, []),
]


@pytest.mark.parametrize(("changes", "told"), TOGETHER)
def test_wrong_keys_and_wrong_references_are_told_at_once(tmp_path, changes, told):
    path = tmp_path / "rf.yaml"
    path.write_text(recipe_text(changes))
    errors = [each.message for each in recipe_errors(path, manifest())]
    assert len(errors) == len(told), errors
    for error, begin in zip(errors, told, strict=True):
        assert error.split(": ", 1)[1].startswith(begin)


@given(spoiled)
def test_a_spoiled_recipe_is_told_with_its_places(folder, content):
    path = folder / "rf.yaml"
    path.write_bytes(content)
    for error in recipe_errors(path, manifest()):
        assert re.match(r"\S+rf\.yaml:[1-9]\d*:[1-9]\d*: \S", error.message)
        assert error.hint


def test_a_missing_library_is_told_beside_a_wrong_key(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    path = tmp_path / "rf.yaml"
    estimator = {13: "  class_path: lightgbm.LGBMClassifier", 14: None}
    path.write_text(recipe_text({3: "target: x", 6: "label: none", **estimator}))
    key, label = recipe_errors(path, manifest())
    assert key.message.endswith("target: unknown key")
    assert "has no label 'none'" in label.message
    path.write_text(recipe_text(estimator))
    [error] = recipe_errors(path, manifest())
    assert "LightGBM" in error.message


def test_a_wrong_mart_is_told_to_the_recipes_that_use_it_and_to_no_other(refusal, check):
    errors = (RunnerError("m.yml:3: user_demographics: no ttl", hint="h"),)
    known = dataclasses.replace(
        manifest([each for each in MARTS if each.name != "user_demographics"]),
        errors={"user_demographics": errors, "another": errors},
    )
    message, hint = refusal({}, known)
    assert message == "rf.yaml:7:12: features[0]: m.yml:3: user_demographics: no ttl"
    assert hint == "h"
    check({7: 'features: ["user_activity:orders_7d"]'}, known)


def test_features_that_would_have_one_column_in_training_rows(refusal, check):
    marts = [
        mart("a__b", USER, user_id="int64", c="int64"),
        mart("a", USER, user_id="int64", b__c="int64", d="int64"),
    ]
    message, hint = refusal({7: 'features: ["a__b:c", "a:*"]'}, manifest(marts))
    assert "features[1]: a:b__c and a__b:c would both be a__b__c in training rows" in message
    assert hint == "rename one of them in its dbt model"
    check({7: 'features: ["a__b:c", "a:d"]'}, manifest(marts))  # `__` alone does no harm
    column = dict(SPINES[0].columns) | columns(a__d="bool")
    spines = [dataclasses.replace(SPINES[0], columns=column, labels={"a__d": timedelta(days=7)})]
    message, _ = refusal({6: "label: a__d", 7: 'features: ["a:d"]'}, manifest(marts, spines))
    assert "a:d and the column a__d of spine_category_purchase would both be a__d" in message

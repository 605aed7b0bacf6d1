"""What dbt's manifest must say, and what is said when it does not."""

import copy
import json
from datetime import timedelta

import pytest

from runner.errors import RunnerError
from runner.project.manifest import load_manifest


def _node(name, folder, columns, meta, **other):
    return {
        "name": name,
        "alias": name,
        "database": "shop",
        "schema": folder,
        "fqn": ["shop", folder, name],
        "resource_type": "model",
        "description": "One row per user\nand day.",
        "patch_path": f"shop://dbt_project/models/{folder}/{name}.yml",
        "original_file_path": f"dbt_project/models/{folder}/{name}.sql",
        "tags": ["daily"],
        "columns": {
            column: {"name": column, "data_type": data_type, "description": column}
            for column, data_type in columns.items()
        },
        "config": {"meta": meta},
        "raw_code": "select 1",
        **other,
    }


MART = _node(
    "user_activity",
    "feature_mart",
    {
        "user_id": "bigint",
        "event_timestamp": "timestamptz",
        "created_at": "timestamp with time zone",
        "orders_7d": "BIGINT",
        "value": "numeric(12, 2)",
    },
    {
        "entities": {"user": "user_id"},
        "ttl": "7d",
        "created_timestamp_column": "created_at",
        "owner": "growth@shop.example",
    },
)
SPINE = _node(
    "spine_purchase",
    "spine_data",
    {"user_id": "bigint", "event_timestamp": "timestamptz", "is_purchase_7d": "boolean"},
    {"entities": {"user": "user_id"}, "labels": {"is_purchase_7d": "7d"}},
)


@pytest.fixture
def load(tmp_path):
    def load_nodes(*nodes, **macros):
        path = tmp_path / "manifest.json"
        content = {
            "metadata": {"project_name": "shop"},
            "nodes": {n["name"]: n for n in nodes},
            "macros": {name: {"macro_sql": sql} for name, sql in macros.items()},
        }
        path.write_text(json.dumps(content))
        return load_manifest(path)

    return load_nodes


def changed(node, **changes):
    """Return the node with `a__b=value` set at node["a"]["b"]; a value of None removes it."""
    node = copy.deepcopy(node)
    for path, value in changes.items():
        *folders, last = path.split("__")
        place = node
        for folder in folders:
            place = place[folder]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return node


def test_a_mart_says_what_feast_needs(load):
    mart = load(MART, SPINE).marts["user_activity"]
    assert mart.entities == {"user": "user_id"}
    assert mart.join_keys == ("user_id",)
    assert mart.ttl == timedelta(days=7)
    assert mart.timestamp_field == "event_timestamp"
    assert mart.created_timestamp_column == "created_at"
    assert mart.online
    assert mart.file == "dbt_project/models/feature_mart/user_activity.yml"
    assert mart.description == "One row per user and day."


def test_features_are_the_columns_that_are_neither_keys_nor_timestamps(load):
    features = load(MART).marts["user_activity"].features
    assert [(f.name, f.dtype) for f in features] == [("orders_7d", "int64"), ("value", "float64")]


def test_a_spine_names_its_labels_and_their_windows(load):
    assert load(SPINE).spines["spine_purchase"].labels == {"is_purchase_7d": timedelta(days=7)}


def test_no_ttl_means_unlimited(load):
    assert load(changed(MART, config__meta__ttl=None)).marts["user_activity"].ttl is None
    assert load(changed(MART, config__meta__ttl="0d")).marts["user_activity"].ttl is None


def test_other_folders_and_other_resources_are_no_business_of_feast(load):
    staging = _node("stg_orders", "staging", {}, {})
    test = {**_node("unique", "feature_mart", {}, {}), "resource_type": "test"}
    manifest = load(staging, test, MART)
    assert list(manifest.marts) == ["user_activity"]
    assert not manifest.spines


def test_the_digest_changes_with_the_sql_and_not_with_the_build(load, tmp_path):
    first = load(MART).sha256
    assert load(changed(MART, description="another text in the YAML")).sha256 == first
    assert load(changed(MART, raw_code="select 2")).sha256 != first


def test_the_digest_changes_with_a_macro(load):
    first = load(MART, window="{% macro window() %}7{% endmacro %}").sha256
    assert load(MART, window="{% macro window() %}8{% endmacro %}").sha256 != first


def test_the_digest_is_of_the_manifest_that_was_read(load):
    read = load(MART)
    before = read.sha256
    load(changed(MART, raw_code="select 2"))  # dbt writes the same file again
    assert read.sha256 == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config__meta__entities": None}, "user_activity: meta.entities is missing"),
        ({"config__meta__entities": {"user": "uid"}}, "names the column 'uid', which is not"),
        ({"config__meta__ttl": "a week"}, "meta.ttl: 'a week' is not a duration"),
        ({"config__meta__tll": "7d"}, "unknown meta.tll"),
        ({"config__meta__timestamp_field": "ts"}, "meta.timestamp_field needs a column 'ts'"),
        (
            {"config__meta__created_timestamp_column": "c"},
            "meta.created_timestamp_column needs a column 'c'",
        ),
        ({"columns__orders_7d__data_type": "jsonb"}, "column orders_7d has data_type 'jsonb'"),
        ({"columns__orders_7d__data_type": None}, "column orders_7d has data_type 'missing'"),
        ({"columns__orders_7d": None, "columns__value": None}, "has no column that is a feature"),
        ({"version": 2}, "has versions (v2), and recipes name no version"),
        ({"config__materialized": "ephemeral"}, "is ephemeral, so there is no table to read"),
    ],
)
def test_a_mart_that_feast_cannot_use_is_refused(load, changes, message):
    with pytest.raises(RunnerError, match=r"feature_mart/user_activity\.yml") as refused:
        load(changed(MART, **changes))
    assert message in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config__meta__labels": None}, "meta.labels is missing"),
        ({"config__meta__labels": {"is_x": "7d"}}, "the spine needs a column 'is_x'"),
        ({"config__meta__labels": {"is_purchase_7d": 7}}, "meta.labels.is_purchase_7d: '7' is not"),
        ({"columns__event_timestamp": None}, "the spine needs a column 'event_timestamp'"),
    ],
)
def test_a_spine_without_labels_or_timestamps_is_refused(load, changes, message):
    with pytest.raises(RunnerError, match=r"spine_data/spine_purchase\.yml") as refused:
        load(changed(SPINE, **changes))
    assert message in refused.value.message


def test_a_missing_manifest_names_the_command_that_writes_it(tmp_path):
    with pytest.raises(RunnerError) as refused:
        load_manifest(tmp_path / "manifest.json")
    assert "dbt build" in refused.value.hint


def test_a_model_without_yaml_names_its_sql_file(load):
    with pytest.raises(RunnerError, match=r"feature_mart/user_activity\.sql"):
        load(changed(MART, patch_path=None, config={}))


@pytest.mark.parametrize(
    "data_type", ["numeric", "numeric(38, 0)", "decimal", "float", "double precision", "real"]
)
def test_a_join_key_that_is_no_exact_value_is_refused(load, data_type):
    for node in (MART, SPINE):
        wrong = changed(node, columns__user_id__data_type=data_type)
        with pytest.raises(RunnerError, match=r"user_id is .*; a join key is an integer") as err:
            load(wrong)
        assert err.value.hint == "cast user_id to bigint or text in the SQL, and in the YAML"

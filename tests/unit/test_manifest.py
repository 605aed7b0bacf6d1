"""What dbt's manifest must say, and what is said when it does not."""

import copy
import json
from concurrent.futures import ThreadPoolExecutor
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
    def load_nodes(*nodes, adapter="postgres", **macros):
        path = tmp_path / "target" / "manifest.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(contents(*nodes, adapter=adapter, **macros))
        return load_manifest(path)

    return load_nodes


def contents(*nodes, adapter="postgres", **macros):
    """Return dbt's manifest as text."""
    return json.dumps(
        {
            "metadata": {"project_name": "shop", "adapter_type": adapter},
            "nodes": {n["name"]: n for n in nodes},
            "macros": {name: {"macro_sql": sql} for name, sql in macros.items()},
        }
    )


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


@pytest.mark.parametrize(
    ("mark", "pii"),
    [
        ({"meta": {"pii": True}}, True),
        ({"config": {"meta": {"pii": True}}}, True),
        ({"config": {"meta": {"pii": False}}, "meta": None}, False),
        ({"config": {"meta": None}}, False),
        ({"meta": {"pii": "no"}}, False),
    ],
)
def test_a_column_is_personal_data_where_its_meta_says_so(load, mark, pii):
    node = copy.deepcopy(MART)
    node["columns"]["value"].update(mark)
    columns = load(node).marts["user_activity"].columns
    assert [name for name, column in columns.items() if column.pii] == ["value"] * pii


def test_a_spine_names_its_labels_and_their_windows(load):
    assert load(SPINE).spines["spine_purchase"].labels == {"is_purchase_7d": timedelta(days=7)}


def test_each_run_compares_unless_compare_every_is_declared(load):
    assert load(MART).marts["user_activity"].compare_every is None
    declared = load(changed(MART, config__meta__compare_every="12h")).marts["user_activity"]
    assert declared.compare_every == timedelta(hours=12)


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
        (
            {"config__meta__entities": {"user": "uid"}},
            "meta.entities.user needs a column 'uid', which is not",
        ),
        ({"config__meta__ttl": "a week"}, "meta.ttl: 'a week' is not a duration"),
        ({"config__meta__compare_every": 12}, "meta.compare_every: '12' is not a duration"),
        ({"config__meta__tll": "7d"}, "unknown meta.tll"),
        ({"config__meta__timestamp_field": "ts"}, "meta.timestamp_field needs a column 'ts'"),
        (
            {"config__meta__created_timestamp_column": "c"},
            "meta.created_timestamp_column needs a column 'c'",
        ),
        ({"columns__orders_7d__data_type": "jsonb"}, "column orders_7d has data_type 'jsonb'"),
        ({"columns__orders_7d__data_type": None}, "column orders_7d has data_type 'missing'"),
        ({"columns__orders_7d": None, "columns__value": None}, "has no column that is a feature"),
        ({"version": 1, "alias": "user_activity_v1"}, "version 1 has the table user_activity_v1"),
        ({"config__materialized": "ephemeral"}, "is ephemeral, so there is no table to read"),
        ({"config__meta__entities": ["user_id"]}, "meta.entities: expected `entity: join key`"),
        ({"config__meta__entities": {"user": ["x"]}}, "meta.entities.user needs a column a list"),
        ({"config__meta__online": "no"}, "meta.online: expected true or false, got 'no'"),
        ({"config__meta__timestamp_field": 7}, "meta.timestamp_field: expected the name of a col"),
        ({"columns__created_at__data_type": "bigint"}, "is created_at, which is bigint and no ti"),
        *(
            ({"columns__user_id__data_type": kind}, f"join key user_id is {kind}, and a join key")
            for kind in ("numeric", "numeric(38,0)", "decimal", "float", "double precision", "real")
        ),
    ],
)
def test_a_mart_that_feast_cannot_use_is_refused(load, changes, message):
    manifest = load(changed(MART, **changes), SPINE)
    assert list(manifest.spines) == ["spine_purchase"]  # the other is not hidden
    assert manifest.marts == {}
    [error] = manifest.errors["user_activity"]
    assert error.message.startswith("dbt_project/models/feature_mart/user_activity.yml: user_act")
    assert message in error.message
    assert error.hint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config__meta__labels": None}, "meta.labels is missing"),
        ({"config__meta__labels": {"is_x": "7d"}}, "meta.labels.is_x needs a column 'is_x'"),
        ({"config__meta__labels": ["is_x"]}, "meta.labels: expected `label: window` lines"),
        ({"columns__user_id__data_type": "float"}, "join key user_id is float"),
        ({"columns__event_timestamp__data_type": "bigint"}, "is bigint and no timestamp"),
        ({"config__meta__labels": {"is_purchase_7d": 7}}, "meta.labels.is_purchase_7d: '7' is not"),
        ({"columns__event_timestamp": None}, "the spine needs a column 'event_timestamp'"),
    ],
)
def test_a_spine_without_labels_or_timestamps_is_refused(load, changes, message):
    manifest = load(changed(SPINE, **changes), MART)
    assert list(manifest.marts) == ["user_activity"]
    assert manifest.spines == {}
    assert message in str([error.message for error in manifest.errors["spine_purchase"]])


def test_a_missing_manifest_names_the_command_that_writes_it(tmp_path):
    with pytest.raises(RunnerError) as refused:
        load_manifest(tmp_path / "manifest.json")
    assert "dbt build" in refused.value.hint


def test_a_manifest_that_dbt_is_writing_is_read_when_it_is_whole(tmp_path):
    path, content = tmp_path / "manifest.json", contents(MART)
    path.write_text(content[:100])
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(load_manifest, path)
        with pytest.raises(TimeoutError):
            reading.result(0.2)
        path.write_text(content)
        assert list(reading.result(20).marts) == ["user_activity"]


def test_a_manifest_that_a_killed_dbt_left_half_written_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr("runner.project.manifest_file._LONGEST_WRITE_SECONDS", 0)
    (tmp_path / "manifest.json").write_text('{"metadata": ')
    with pytest.raises(RunnerError, match="ended before it had written") as refused:
        load_manifest(tmp_path / "manifest.json")
    assert "dbt parse" in refused.value.hint


def test_a_model_without_yaml_names_its_sql_file(load):
    [error] = load(changed(MART, patch_path=None, config={})).errors["user_activity"]
    assert error.message.startswith("dbt_project/models/feature_mart/user_activity.sql: ")


def test_every_error_of_every_mart_is_there_with_its_line(load, tmp_path):
    folder = tmp_path / "dbt_project/models/feature_mart"
    folder.mkdir(parents=True)
    (folder / "user_activity.yml").write_text(YAML)
    wrong = changed(MART, config__meta__ttl="a week", columns__value__data_type="jsonb")
    messages = [error.message for error in load(wrong).errors["user_activity"]]
    file = "dbt_project/models/feature_mart/user_activity.yml"
    assert messages[0].startswith(f"{file}:12: user_activity: column value has data_type 'jsonb'")
    assert messages[1].startswith(f"{file}:7: user_activity: meta.ttl: 'a week' is not a duration")


YAML = """\
models:
  - {name: another, columns: [{name: value}]}
  - name: user_activity
    config:
      meta:
        entities: {user: user_id}
        ttl: a week
    columns:
      - name: user_id
        data_type: bigint
      - name: value
        data_type: jsonb
"""


@pytest.mark.parametrize(
    ("name", "contract", "message"),
    [
        ("UserScore", False, "column UserScore has upper-case letters, which PostgreSQL folds to"),
        ("order", True, "column order is a reserved word, which PostgreSQL takes in quotes only"),
        ("order", False, ""),  # `select … as order` makes it
        ("My Feature", True, "column My Feature has upper-case letters"),
        ("a b", True, "column a b is no plain name, which PostgreSQL takes in quotes only"),
        ("1st", True, "column 1st is no plain name"),
        ("größe", True, ""),
        ("x" * 64, False, "has 64 bytes; PostgreSQL keeps 63"),
        ("ö" * 32, False, "has 64 bytes; PostgreSQL keeps 63"),
    ],
)
@pytest.mark.parametrize("node", [MART, SPINE], ids=["mart", "spine"])
def test_a_column_that_postgresql_would_call_by_another_name(load, node, name, contract, message):
    column = {"name": name, "data_type": "bigint", "description": ""}
    wrong = changed(node, config__contract={"enforced": contract}, **{f"columns__{name}": column})
    found = [e.message for errors in load(wrong).errors.values() for e in errors]
    assert [message in each for each in found] == ([True] if message else [])
    column["quote"] = True
    assert bool(load(wrong).errors) == ("bytes" in message)
    assert not load(wrong, adapter="bigquery").errors


@pytest.mark.parametrize(("length", "alike"), [(50, True), (49, False)])
def test_dbt_models_whose_temporary_tables_would_have_one_name(load, length, alike):
    one = _node("s" * length + "_day", "staging", {}, {})
    other = _node("s" * length + "_week", "staging", {}, {})
    errors = load(MART, one, other).errors
    assert list(errors) == ([one["name"], other["name"]] if alike else [])
    if alike:
        assert f"the same 51 bytes as {other['name']}" in errors[one["name"]][0].message
    assert not load(one, changed(other, schema="elsewhere")).errors
    assert not load(one, changed(other, config__materialized="ephemeral")).errors
    assert not load(one, other, adapter="bigquery").errors


def test_a_dbt_model_whose_name_postgresql_would_cut_off(load):
    [error] = load(_node("s" * 64, "staging", {}, {})).errors["s" * 64]
    assert "its name has 64 bytes; PostgreSQL keeps 63" in error.message


def test_two_marts_that_disagree_about_an_entity(load):
    other = changed(MART, name="other", alias="other", columns__user_id__data_type="text")
    manifest = load(MART, other)
    assert list(manifest.marts) == ["user_activity"]
    [error] = manifest.errors["other"]
    assert "entity user is user_id string, but user_id int64 in user_activity" in error.message


def test_features_of_one_key_set_that_share_a_redis_field(load):
    column = {"data_type": "bigint", "description": ""}
    one, other = "orders_35243", "orders_123367"
    columns = {f"columns__{name}": {"name": name, **column} for name in (one, other)}
    wrong = changed(MART, **columns)
    [first, second] = load(wrong).errors["user_activity"]
    assert f"user_activity:{one} and user_activity:{other} share one field" in first.message
    assert f"user_activity:{other} and user_activity:{one} share one field" in second.message
    assert "rename one" in second.hint
    assert not load(changed(wrong, config__meta__online=False)).errors  # in no Redis

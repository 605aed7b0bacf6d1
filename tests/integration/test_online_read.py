"""What we write is read: by stock Feast, by `runner online get` and by `runner audit`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from feast import FeatureStore
from feast.protos.feast.types.Value_pb2 import Value
from typer.testing import CliRunner

from contract.feast_format import field_hash
from runner.cli import app
from runner.errors import RunnerError
from runner.feature_store.feast_objects import feast_objects
from runner.feature_store.feast_queries import FeastQueries
from runner.feature_store.planned_queries import MartQueries, open_queries
from runner.feature_store.recipe_features import RecipeFeature
from runner.feature_store.store import open_store
from runner.online.audit import FeatureAudit, audit
from runner.online.materialize import materialize
from runner.online.reader import get_online, parse_entity
from runner.project.manifest import FeatureMart, Manifest
from runner.recipes.recipe import load_recipe
from runner.settings import PostgresAddress
from runner.warehouse.postgres.store_config import load_store_config
from tests.online_project import PROJECT, OnlineProject, redis_key, serialized

_ROOT = Path(__file__).resolve().parents[2]
_HOUR = timedelta(hours=1)
_RECIPE = """\
registered_model_name: good
experiment_name: good
task: classification
spine: labels
label: is_good
features: [{features}]
split: {{test: 7d, embargo: 1d}}
estimator: {{class_path: sklearn.linear_model.LogisticRegression}}
scoring: [roc_auc]
"""


@pytest.fixture
def project(
    tmp_path: Path, database: PostgresAddress, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OnlineProject]:
    yaml = (_ROOT / "profiles" / "feature_store.local.yaml").read_text()
    made = OnlineProject(tmp_path, database, redis_url, yaml=yaml)
    made.sql.execute("create schema feast_registry")
    (tmp_path / "dbt_project.yml").write_text(f"name: {PROJECT}\n")
    shutil.copy(_ROOT / "profiles" / "local.env", tmp_path / "profiles")
    for name in ("APP_ENV", "DO_NOT_TRACK", *made.settings.env):
        monkeypatch.setenv(name, made.settings.env.get(name, "local"))
    monkeypatch.chdir(tmp_path)
    yield made
    made.sql.close()


def _ago(hours: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) - hours * _HOUR


def _activity(project: OnlineProject) -> FeatureMart:
    mart = project.mart(
        "activity",
        {"user_id": "int64"},
        {"orders": "int64", "score": "float64", "device": "string", "is_new": "bool"},
        ttl=timedelta(days=7),
    )
    for user in range(1, 6):
        project.insert(
            mart, [user, _ago(50), _ago(50), 2**53 + user, user / 3, f"d{user}", user % 2 == 0]
        )
    project.insert(mart, [6, _ago(50), _ago(50), None, None, None, None])
    project.insert(mart, [7, _ago(24 * 7 - 1), _ago(24 * 7 - 1), 7, 7.0, "old", True])
    return mart


def _materialize(project: OnlineProject) -> None:
    materialize(project.settings, project.marts)


# --- stock Feast ---


def test_stock_feast_reads_every_type_and_key_that_we_write(project: OnlineProject) -> None:
    values = {
        "f_int64": ("int64", 2**53 + 1),
        "f_int32": ("int32", -5),
        "f_float64": ("float64", 0.1),
        "f_float32": ("float32", 0.5),
        "f_string": ("string", "ä€😀"),
        "f_bool": ("bool", False),
        "f_timestamp": ("timestamp", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
    }
    features = {name: dtype for name, (dtype, _) in values.items()}
    pair = project.mart("pair", {"zone": "string", "user_id": "int64"}, features)
    total = project.mart("total", {}, {"orders": "int64"})
    row = [value for _, value in values.values()]
    project.insert(pair, ["süd", -7, _ago(1), _ago(1), *row])
    project.insert(pair, ["nord", -7, _ago(1), _ago(1), *[None] * len(row)])
    project.insert(total, [_ago(1), _ago(1), 42])
    _materialize(project)
    store = _open(project, project.write_manifest())
    answer = store.get_online_features(
        features=[*(f"pair:{name}" for name in values), "total:orders"],
        entity_rows=[{"zone": "süd", "user_id": -7}, {"zone": "nord", "user_id": -7}],
    ).to_dict()
    assert {name: answer[name] for name in values} == {
        name: [value, None] for name, (_, value) in values.items()
    }
    assert answer["orders"] == [42, 42]


def _open(project: OnlineProject, manifest: Manifest) -> FeatureStore:
    store = open_store(project.settings)
    store.apply(feast_objects(manifest, []))
    return store


# --- runner online get ---


def test_an_entity_is_shown_with_its_times_and_statuses(project: OnlineProject) -> None:
    mart = _activity(project)
    _materialize(project)
    answer = get_online(project.settings, mart, {"user_id": 2})
    assert {v.feature: (v.value, v.status) for v in answer.values} == {
        "orders": (2**53 + 2, "present"),
        "score": (2 / 3, "present"),
        "device": ("d2", "present"),
        "is_new": (True, "present"),
    }
    assert answer.age_seconds == pytest.approx(50 * 3600, abs=60)
    assert answer.ttl_left_seconds == pytest.approx((7 * 24 - 50) * 3600, abs=60)
    assert answer.key_ttl_seconds == pytest.approx(86_400, abs=60)
    nulls = get_online(project.settings, mart, {"user_id": 6})
    assert {v.status for v in nulls.values} == {"null"}


def test_an_entity_that_is_not_stored_is_missing(project: OnlineProject) -> None:
    answer = get_online(project.settings, _activity(project), {"user_id": 99})
    assert {(v.value, v.status) for v in answer.values} == {(None, "missing")}
    assert (answer.event_time, answer.age_seconds, answer.ttl_left_seconds) == (None, None, None)
    assert answer.key_ttl_seconds is None


def test_an_expired_value_and_a_field_that_is_not_stored_are_told(project: OnlineProject) -> None:
    mart = _activity(project)
    row = {
        "event_timestamp": _ago(24 * 8),
        "orders": 1,
        "score": 0.5,
        "device": "a",
        "is_new": True,
    }
    key, fields = redis_key(mart, {"user_id": 1}), serialized(mart, row)
    with project.redis() as client:
        client.hset(key, mapping=fields)  # type: ignore[arg-type]
        client.hdel(key, list(fields)[-1])
    answer = get_online(project.settings, mart, {"user_id": 1})
    assert [(v.value, v.status) for v in answer.values] == [
        (1, "expired"),
        (0.5, "expired"),
        ("a", "expired"),
        (None, "missing"),
    ]
    assert answer.ttl_left_seconds == pytest.approx(-24 * 3600, abs=60)


def test_a_value_of_another_type_names_the_feature_and_the_way_out(
    project: OnlineProject,
) -> None:
    mart = project.mart("v", {"id": "int64"}, {"seen_at": "timestamp"})
    row = {"event_timestamp": _ago(1), "seen_at": _ago(2)}
    key, fields = redis_key(mart, {"id": 1}), serialized(mart, row)
    with project.redis() as client:
        client.hset(key, mapping=fields)  # type: ignore[arg-type]
        assert get_online(project.settings, mart, {"id": 1}).values[0].value == row["seen_at"]
        client.hset(key, list(fields)[-1], b"")
        assert get_online(project.settings, mart, {"id": 1}).values[0].status == "null"
        client.hset(key, list(fields)[-1], b"\x12\x01a")
    with pytest.raises(RunnerError, match="v:seen_at is not timestamp") as caught:
        get_online(project.settings, mart, {"id": 1})
    assert caught.value.hint == "run `runner materialize --full v`"


@pytest.mark.parametrize("broken", ["_ts:activity", "orders", "score", "device"])
def test_what_is_cut_off_is_told_by_get_and_audit_and_mended_by_a_full_run(
    project: OnlineProject, broken: str
) -> None:
    mart = _activity(project)
    project.write_manifest()
    recipe = project.settings.root / "recipes" / "good.yaml"
    recipe.parent.mkdir()
    recipe.write_text(_RECIPE.format(features='"activity:*"'))
    _materialize(project)
    key = redis_key(mart, {"user_id": 1})
    field = broken.encode() if broken.startswith("_ts") else field_hash("activity", broken)
    with project.redis() as client:
        stored = client.hgetall(key)
        client.hset(key, field, stored[field][:-1])  # type: ignore[index,call-overload]
        for command in (("online", "get", "activity", "user_id=1"), ("audit", str(recipe))):
            done = _runner(*command)
            assert done.exit_code == 1
            assert "error: the online store's " in done.stderr
            assert "hint: run `runner materialize --full activity`" in done.stderr
        materialize(project.settings, project.marts, full=True)
        assert client.hgetall(key) == stored


def test_a_number_that_no_model_can_take_is_told_alike_by_get_and_audit(
    project: OnlineProject,
) -> None:
    mart = _activity(project)
    project.write_manifest()
    recipe = project.settings.root / "recipes" / "good.yaml"
    recipe.parent.mkdir()
    recipe.write_text(_RECIPE.format(features='"activity:*"'))
    _materialize(project)
    field = field_hash("activity", "score")
    with project.redis() as client:
        infinite = Value(double_val=float("inf")).SerializeToString()
        client.hset(redis_key(mart, {"user_id": 1}), field, infinite)  # type: ignore[call-overload]
    for command in (("online", "get", "activity", "user_id=1"), ("audit", str(recipe))):
        done = _runner(*command)
        assert done.exit_code == 1
        assert "the online store's activity:score: inf is not between -3.4e+38" in done.stderr
        assert "hint: cap it in the feature mart's SQL" in done.stderr


def test_feasts_own_null_beside_other_times_is_null(project: OnlineProject) -> None:
    mart = project.mart("v", {"id": "int64"}, {"seen_at": "timestamp"})
    fields = serialized(mart, {"event_timestamp": _ago(1), "seen_at": None})
    fields[field_hash("v", "seen_at")] = Value(unix_timestamp_val=-(2**63)).SerializeToString()
    with project.redis() as client:
        client.hset(redis_key(mart, {"id": 1}), mapping=fields)  # type: ignore[arg-type]
    assert get_online(project.settings, mart, {"id": 1}).values[0].status == "null"


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "needs the join key a"),
        (["a=1", "b=x"], "needs the join key c"),
        (["a=1", "b=x", "c=2026-01-01T00:00:00Z", "d=4"], "'d' is not a join key"),
        (["a=1", "b=x", "c=2026-01-01T00:00:00Z", "a=2"], "a is given twice"),
        (["a=one", "b=x", "c=2026-01-01T00:00:00Z"], "a=one is not a whole number"),
        (["a=3000000000", "b=x", "c=2026-01-01T00:00:00Z"], "a=3000000000 is not a whole number"),
        (["a=1", "b=x", "c=2026-01-01T00:00:00"], "is not an ISO 8601 time"),
    ],
)
def test_wrong_entity_keys_are_explained(
    project: OnlineProject, pairs: list[str], message: str
) -> None:
    mart = project.mart("v", {"a": "int32", "b": "string", "c": "timestamp"}, {"f": "int64"})
    with pytest.raises(RunnerError, match=message):
        parse_entity(mart, pairs)


def test_entity_keys_get_their_types(project: OnlineProject) -> None:
    mart = project.mart("v", {"a": "int32", "b": "string", "c": "timestamp"}, {"f": "int64"})
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert parse_entity(mart, ["b=x=y", "a=-1", "c=2026-01-01T01:00:00+01:00"]) == {
        "a": -1,
        "b": "x=y",
        "c": moment,
    }
    total = project.mart("total", {}, {"f": "int64"})
    assert parse_entity(total, []) == {}
    with pytest.raises(RunnerError) as caught:
        parse_entity(total, ["a=1"])
    assert "no entities" in caught.value.hint


# --- runner audit ---


def _audit(project: OnlineProject, features: str = '"activity:*"', **options: Any) -> Any:
    path = project.settings.root / "recipes" / "good.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(_RECIPE.format(features=features))
    found = audit(project.settings, project.write_manifest(), load_recipe(path), **options)
    return {audited.feature.name: audited for audited in found}


def _counts(audited: FeatureAudit) -> dict[str, int]:
    kinds = ("mismatch", "missing", "extra", "stale")
    return {kind: n for kind in kinds if (n := getattr(audited, kind))}


def test_an_audit_after_materializing_finds_no_skew(project: OnlineProject) -> None:
    _activity(project)
    total = project.mart("total", {}, {"all_orders": "int64"})
    project.insert(total, [_ago(1), _ago(1), 42])
    pair = project.mart("pair", {"day": "timestamp", "zone": "string"}, {"n": "float32"})
    project.insert(pair, [datetime(2026, 1, 1, tzinfo=UTC), "a'b", _ago(1), _ago(1), 0.1])
    _materialize(project)
    found = _audit(project, '"activity:*", "total:*", "pair:n"')
    assert [_counts(audited) for audited in found.values()] == [{}] * 6
    assert {name: audited.compared for name, audited in found.items()} == {
        "orders": 7,
        "score": 7,
        "device": 7,
        "is_new": 7,
        "all_orders": 1,
        "n": 1,
    }


def test_an_audit_reads_features_whose_names_postgresql_would_cut(project: OnlineProject) -> None:
    name = "orders_" + "of_the_last_thirty_days_" * 2
    mart = project.mart("activity", {"user_id": "int64"}, {name: "int64"})
    project.insert(mart, [1, _ago(1), _ago(1), 42])
    _materialize(project)
    found = _audit(project)[name]
    assert (found.compared, _counts(found)) == (1, {})


def test_an_audit_tells_mismatch_missing_extra_and_stale_apart(project: OnlineProject) -> None:
    mart = _activity(project)
    _materialize(project)
    row = {"event_timestamp": _ago(60), "score": 1 / 3, "device": "d1", "is_new": False}
    with project.redis() as client:
        client.hset(  # a wrong value of user 1
            redis_key(mart, {"user_id": 1}),
            mapping=serialized(mart, {**row, "orders": 5}),  # type: ignore[arg-type]
        )
        client.delete(redis_key(mart, {"user_id": 2}))
        client.hset(  # a user that the mart never had
            redis_key(mart, {"user_id": 900}),
            mapping=serialized(mart, {**row, "orders": 9}),  # type: ignore[arg-type]
        )
    now = datetime.now(UTC)
    project.insert(mart, [3, now, now, 3, 1.0, "d3", False])  # moved on after materializing
    found = _audit(project)
    assert _counts(found["orders"]) == {"mismatch": 1, "missing": 1, "extra": 1, "stale": 1}
    assert _counts(found["score"]) == {"missing": 1, "extra": 1}
    assert found["orders"].has_skew
    by_kind = {example.kind: example for example in found["orders"].examples}
    assert (by_kind["mismatch"].online, by_kind["mismatch"].offline) == (5, 2**53 + 1)
    assert by_kind["extra"].entity == {"user_id": 900}


def test_an_audit_leaves_out_what_is_newer_than_its_instant(project: OnlineProject) -> None:
    mart = _activity(project)
    _materialize(project)
    row = {"event_timestamp": _ago(-1), "orders": 5, "score": 1.0, "device": "x", "is_new": False}
    with project.redis() as client:
        key = redis_key(mart, {"user_id": 1})
        client.hset(key, mapping=serialized(mart, row))  # type: ignore[arg-type]
    found = _audit(project)
    assert _counts(found["orders"]) == {}
    assert found["orders"].compared == 6


def test_an_audit_of_an_empty_store_and_mart_compares_nothing(project: OnlineProject) -> None:
    project.mart("activity", {"user_id": "int64"}, {"orders": "int64"})
    assert _audit(project)["orders"].compared == 0


def test_an_audit_samples_as_many_entities_as_it_is_told(project: OnlineProject) -> None:
    mart = project.mart("activity", {"user_id": "int64"}, {"orders": "int64"})
    project.insert(mart, *[[user, _ago(2), _ago(2), user] for user in range(3_000)])
    project.sql.execute("analyze feature_mart.activity")
    _materialize(project)
    found = _audit(project, entities=100)["orders"]
    assert 100 <= found.compared <= 200
    assert _counts(found) == {}


def test_values_never_materialized_are_missing(project: OnlineProject) -> None:
    _activity(project)
    assert _counts(_audit(project)["device"]) == {"missing": 6}


# --- the commands ---


def _runner(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_materialize_writes_what_it_can_and_names_the_views_that_fail(
    project: OnlineProject,
) -> None:
    _activity(project)
    for name in ("gone", "lost"):
        project.mart(name, {"user_id": "int64"}, {"orders": "int64"})
    project.write_manifest()
    assert _runner("materialize").exit_code == 0
    for name in ("gone", "lost"):
        project.sql.execute(f"drop table feature_mart.{name}".encode())
    done = _runner("materialize")
    assert done.exit_code == 1
    assert "feature mart gone: no table feature_mart.gone" in done.output
    assert "feature mart lost: no table feature_mart.lost" in done.output
    assert len(project.online()) == 7


def test_a_mart_that_was_never_built_is_skipped_unless_it_is_named(project: OnlineProject) -> None:
    _activity(project)
    project.mart("new", {"user_id": "int64"}, {"orders": "int64"})
    project.sql.execute(b"drop table feature_mart.new")
    project.write_manifest()
    done = _runner("materialize")
    assert done.exit_code == 0, done.output
    assert "new: dbt has not built it, skipped; run `dbt build --select +new`" in done.stderr
    assert len(project.online()) == 7
    named = _runner("materialize", "new")
    assert named.exit_code == 1
    assert "feature mart new: no table feature_mart.new" in named.stderr


def test_the_commands_materialize_show_and_audit(project: OnlineProject) -> None:
    mart = _activity(project)
    project.write_manifest()
    recipe = project.settings.root / "recipes" / "good.yaml"
    recipe.parent.mkdir()
    recipe.write_text(_RECIPE.format(features='"activity:orders"'))
    done = _runner("materialize", str(recipe))
    assert done.exit_code == 0, done.output
    assert "activity" in done.stdout
    assert "full" in done.stdout

    shown = _runner("online", "get", "activity", "user_id=2")
    assert shown.exit_code == 0, shown.output
    assert "ttl left 4.9 d" in shown.stdout
    assert str(2**53 + 2) in shown.stdout
    answer = json.loads(_runner("online", "get", "activity", "user_id=2", "--json").stdout)
    assert answer["values"][0] == {"feature": "orders", "value": 2**53 + 2, "status": "present"}
    assert "not in Redis" in _runner("online", "get", "activity", "user_id=77").stdout

    clean = _runner("audit", str(recipe))
    assert clean.exit_code == 0, clean.output
    with project.redis() as client:
        client.delete(redis_key(mart, {"user_id": 2}))
    skewed = _runner("audit", str(recipe))
    assert skewed.exit_code == 1
    assert "user_id=2: online None" in skewed.stdout
    found = json.loads(_runner("audit", str(recipe), "--json").stdout)
    assert found[0]["missing"] == 1
    assert found[0]["examples"][0]["entity"] == {"user_id": 2}


def test_materialize_names_the_mart_that_does_not_exist(project: OnlineProject) -> None:
    _activity(project)
    offline = project.mart("archive", {"user_id": "int64"}, {"n": "int64"})
    manifest = project.write_manifest()
    nodes = json.loads(manifest.path.read_text())
    nodes["nodes"][offline.name]["config"]["meta"]["online"] = False
    manifest.path.write_text(json.dumps(nodes))
    wrong = _runner("materialize", "activty")
    assert wrong.exit_code == 1
    assert "(did you mean 'activity'?)" in wrong.stderr
    assert "feature marts: activity, archive;" in wrong.stderr
    unlike = _runner("online", "get", "nope", "user_id=1")
    assert "did you mean" not in unlike.stderr
    assert "feature marts: activity, archive;" in unlike.stderr
    assert "`online: false`" in _runner("materialize", "archive").stderr
    everything = _runner("materialize")
    assert everything.exit_code == 0
    assert "archive" not in everything.stdout


def test_materialize_warns_of_values_that_are_newer(project: OnlineProject) -> None:
    mart = _activity(project)
    project.write_manifest()
    row = {"event_timestamp": _ago(1), "orders": 5, "score": 1.0, "device": "x", "is_new": False}
    with project.redis() as client:
        key = redis_key(mart, {"user_id": 1})
        client.hset(key, mapping=serialized(mart, row))  # type: ignore[arg-type]
    assert "1 values in Redis are newer" in _runner("materialize", "activity").stderr


def test_an_entity_that_expired_or_never_expires_is_described(project: OnlineProject) -> None:
    forever = project.mart("forever", {"user_id": "int64"}, {"n": "int64"})
    brief = project.mart("brief", {"user_id": "int64"}, {"n": "int64"}, ttl=_HOUR)
    project.write_manifest()
    for mart in (forever, brief):
        row = {"event_timestamp": _ago(3), "n": 1}
        with project.redis() as client:
            key = redis_key(mart, {"user_id": 1})
            client.hset(key, mapping=serialized(mart, row))  # type: ignore[arg-type]
    assert "age 3.0 h, no ttl" in _runner("online", "get", "forever", "user_id=1").stdout
    assert "expired 2.0 h ago" in _runner("online", "get", "brief", "user_id=1").stdout


# --- without Feast ---


def test_the_join_without_feast_is_feasts_to_the_letter(project: OnlineProject) -> None:
    types = ("int64", "int32", "float64", "float32", "string", "bool", "timestamp")
    features = {f"f_{dtype}": dtype for dtype in types}
    _activity(project)
    project.mart("pair", {"zone": "string", "user_id": "int64"}, features, created=False)
    project.mart("total", {}, {"orders": "int64"}, index=False)
    manifest = project.write_manifest()
    [spine] = manifest.spines.values()
    marts = manifest.marts
    project.sql.execute("create schema spine_data")
    project.sql.execute(
        f"create table {spine.path} (zone text, user_id bigint, event_timestamp timestamptz, "
        "is_good boolean)"
    )
    asked = [("pair", name) for name in reversed(features)]
    asked += [("total", "orders"), ("activity", "device"), ("activity", "orders")]
    chosen = [
        RecipeFeature(marts[mart], name, marts[mart].columns[name].dtype, "")
        for mart, name in asked
    ]
    ours, feasts = (
        open_queries(project.settings, manifest),
        FeastQueries(project.settings, manifest),
    )
    assert isinstance(ours, MartQueries)
    path = project.settings.root / "good.yaml"
    path.write_text(_RECIPE.format(features='"activity:*"'))
    recipe = load_recipe(path)
    assert ours.join_query(recipe, spine, chosen) == feasts.join_query(recipe, spine, chosen)
    assert ours.split_query(spine, "is_good") == feasts.split_query(spine, "is_good")


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"knowledge_time": False, "work_mem": "8MB", "db_schema": "other", "keepalives_idle": 5},
        {"host": "${ELSEWHERE}", "port": 7, "user": "u", "password": "p", "sslmode": "disable"},
        {"sslkey_path": "/k", "sslcert_path": "/c", "sslrootcert_path": "/r"},
    ],
)
def test_the_store_is_configured_as_feast_reads_it(
    project: OnlineProject, keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELSEWHERE", "db.example")
    path = project.settings.feature_store_yaml
    content = yaml.safe_load(path.read_text())
    content["offline_store"] |= keys
    path.write_text(yaml.safe_dump(content))
    found = load_store_config(project.settings)
    assert found is not None
    _activity(project)
    theirs = FeastQueries(project.settings, project.write_manifest()).config.offline_store
    for name, value in asdict(found).items():
        assert getattr(theirs, name) == value, name


def test_another_offline_store_is_left_to_feast(project: OnlineProject) -> None:
    path = project.settings.feature_store_yaml
    content = yaml.safe_load(path.read_text())
    content["offline_store"]["type"] = "postgres"
    path.write_text(yaml.safe_dump(content))
    assert load_store_config(project.settings) is None

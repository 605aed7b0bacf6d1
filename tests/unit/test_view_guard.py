"""Which served versions lose what when feature views are materialized."""

from runner.commands.builds import view_guard
from runner.commands.builds.view_guard import guarded_views
from runner.lineage.feature_definitions import DbtQuery, Definitions, ViewContract
from runner.records.served_versions import ServedFeature, ServedVersion
from runner.settings import Settings
from tests.online_project import empty_mart


def definitions(sql, *features):
    view = ViewContract(
        "model.v", {"id": "int64"}, dict.fromkeys(features, "int64"), "t", None, None
    )
    return Definitions("postgres", {"v": view}, {"model.v": DbtQuery(sql, {})})


def version(name, feature):
    taken = (ServedFeature("v", feature, "digest"),)
    return ServedVersion(
        name, "1", ("champion",), taken, definitions("select id, t, a, b, c", *"abc")
    )


def test_only_the_versions_that_take_what_changed_or_left_are_retired(monkeypatch, tmp_path):
    versions = [version("same", "a"), version("other", "b"), version("without", "c")]
    monkeypatch.setattr(view_guard, "served_versions", lambda *_: versions)
    now = definitions("select id, t, a, 1000 * b as b", "a", "b")
    monkeypatch.setattr(view_guard, "known_definitions", lambda *_: now)
    features = {"a": "int64", "b": "int64"}
    mart = empty_mart("v", ("d", "s"), {"id": "int64"}, features, ttl=None, created=False)
    guarded = guarded_views(Settings("local", tmp_path, {}), None, [mart])
    assert [each.name for each in guarded.losers([])] == ["other", "without"]
    assert guarded.gone["v"].error.message == (
        "v:c is no longer in dbt, and without version 1 (champion) reads it; the values stay in "
        "Redis"
    )
    assert [each.name for each in guarded.losers(["v"])] == ["other", "without", "same"]

"""Which features would be others for which versions, and what keeps its digest."""

from dataclasses import replace

from runner.commands.builds.feature_guard import (
    changed_features,
    marts_upstream,
    refusals,
)
from runner.commands.builds.recorded_definitions import same_digests, with_known_digests
from runner.lineage.feature_definitions import DbtQuery, Definitions, ViewContract
from runner.records.served_versions import ServedFeature, ServedVersion

CONTRACT = ViewContract("model.activity", {"user_id": "int64"}, {"n": "int64"}, "t", None, None)


def definitions(sql):
    query = DbtQuery(sql, {'"dev"."events"': "source.app.events"})
    return Definitions("postgres", {"activity": CONTRACT}, {"model.activity": query})


def version(number, sql, *aliases, digest="first", **more):
    known = None if sql is None else definitions(sql)
    return ServedVersion(
        "m", number, aliases, (ServedFeature("activity", "n", digest),), known, **more
    )


ONE = "select user_id, t, n from dev.events"
OTHER = "select user_id, t, 1000 * n as n from dev.events"


def test_only_what_a_served_version_takes_is_refused():
    versions = [
        version("1", ONE, "champion"),
        version("2", OTHER, "challenger"),
        version("3", ONE, "challenger"),  # nobody serves it before it is promoted
        version("4", ONE, "champion", is_retired=True),
        version("5", None, "champion"),  # of before definitions were recorded
    ]
    changed = changed_features(definitions(OTHER), versions, ["activity"])
    assert [each.version.version for each in changed] == ["1", "3", "4"]
    [error] = refusals(changed)
    assert error.message == (
        "activity: n changed, and m version 1 (champion) was trained on the earlier definition: "
        "- n; + 1000 * n AS n"
    )
    assert "runner new-version activity" in error.hint
    assert changed_features(definitions(OTHER), versions, ["other"]) == []


def test_an_equal_definition_keeps_its_digest_whatever_sqlglot_makes_of_it():
    versions = [version("2", ONE, digest="of one sqlglot"), version("1", ONE, digest="of another")]
    again = definitions(ONE.replace("select", "SELECT"))
    assert same_digests(again, versions) == {"activity:n": ["of one sqlglot", "of another"]}
    assert with_known_digests(again, versions).digests == {"activity:n": "of one sqlglot"}
    other = with_known_digests(definitions(OTHER), versions).digests["activity:n"]
    assert other == definitions(OTHER).digests("activity")["n"]


def test_a_build_overwrites_the_marts_that_it_needs_by_version():
    def node(name, *parents, version=None):
        nodes = {"nodes": list(parents)}
        return {"name": name, "resource_type": "model", "depends_on": nodes, "version": version}

    nodes = {
        "model.s.low.v1": node("low", version=1),
        "model.s.low.v2": node("low", version=2),
        "model.s.high": node("high", "model.s.low.v2"),
        "model.s.spine": node("spine", "model.s.low.v1"),
    }
    assert marts_upstream({"nodes": nodes}, ["high"]) == {"high", "low_v2"}
    assert marts_upstream({"nodes": nodes}, ["spine"]) == {"spine", "low"}


def test_what_was_compiled_for_another_warehouse_is_neither_changed_nor_the_same():
    there = replace(definitions(OTHER), dialect="bigquery")
    versions = [version("1", ONE, "champion")]
    assert changed_features(there, versions, ["activity"]) == []
    assert same_digests(replace(definitions(ONE), dialect="bigquery"), versions) == {}

"""What a dbt run built is kept for the next commands, and nothing that it only added rows to."""

import json

import pytest

from runner.project.built_from import built_from
from runner.project.dbt_results import dbt_results
from runner.settings import Settings


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "filled.sql").write_text("\n create table reading as (select 1)")
    (tmp_path / "added.sql").write_text("insert into reading select 1")
    return Settings("local", tmp_path, {})


def node(name, materialized, build_path):
    return {
        "name": name,
        "resource_type": "model",
        "columns": {},
        "config": {"materialized": materialized, "meta": {"entities": {"user": "user_id"}}},
        "relation_name": name,
        "compiled_code": "select 1",
        "build_path": build_path,
    }


def write(settings, *nodes):
    """Write the artifacts of a `dbt build` of these dbt models."""
    found = {f"model.shop.{node['name']}": node for node in nodes}
    content = {"metadata": {"invocation_id": "mine"}, "nodes": found, "macros": {}, "sources": {}}
    settings.manifest_path.write_text(json.dumps(content))
    results = {
        "metadata": {"invocation_id": "mine"},
        "args": {"which": "build"},
        "results": [{"unique_id": key, "status": "success"} for key in found],
    }
    settings.manifest_path.with_name("run_results.json").write_text(json.dumps(results))


@pytest.mark.parametrize("path", [None, "added.sql", "gone.sql"])
def test_an_increment_that_nobody_knows_to_be_whole_hides_no_other_mart(settings, path):
    marts = node("reading", "incremental", path), node("user", "table", None)
    write(settings, *marts, node("whole", "incremental", "filled.sql"))
    assert built_from(settings).keys() == {"user", "whole"}


def test_results_that_a_killed_dbt_left_half_written_are_not_read(settings):
    write(settings, node("user", "table", None))
    assert len(dbt_results(settings, "mine")) == 1
    path = settings.manifest_path.with_name("run_results.json")
    path.write_text(path.read_text()[:-1])
    assert dbt_results(settings, "mine") == []


@pytest.mark.parametrize("name", ["run_results.json", "manifest.json"])
def test_an_artifact_that_a_killed_dbt_left_half_written_is_not_read(settings, name):
    write(settings, node("user", "table", None))
    path = settings.manifest_path.with_name(name)
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    assert built_from(settings) == {}
    path.write_text(text)
    assert built_from(settings).keys() == {"user"}

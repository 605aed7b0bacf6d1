"""Compiled SQL is kept only where nothing but the project decides it."""

import pytest

from runner.commands.project.new_project import SKELETON
from runner.project.introspection import asks_warehouse

BUILT_IN = {
    "is_incremental": (
        "dbt",
        "{% macro is_incremental() %}{{ load_relation(this) }}{% endmacro %}",
    ),
    "should_full_refresh": ("dbt", "{% macro should_full_refresh() %}{{ flags }}{% endmacro %}"),
    "run_query": ("dbt", "{% macro run_query(sql) %}{% call statement('q') %}{% endmacro %}"),
    "type_float": ("dbt", "{{ return(adapter.dispatch('type_float', 'dbt')()) }}"),
    "default__type_float": ("dbt", "{{ return(api.Column.translate_type('float')) }}"),
}


def manifest(sql, macros=(), **config):
    named = {**BUILT_IN, **dict(macros)}
    return {
        "nodes": {
            "model.shop.m": {"resource_type": "model", "raw_code": sql, "config": config},
            "test.shop.t": {"resource_type": "test", "raw_code": "{{ run_query('x') }}"},
        },
        "macros": {
            name: {"name": name, "package_name": package, "macro_sql": text}
            for name, (package, text) in named.items()
        },
    }


@pytest.mark.parametrize(
    "sql",
    [
        "select 1",
        "select cast(x as {{ dbt.type_float() }}) from {{ ref('a') }}",
        "select * from {{ source('a', 'b') }} where run_query = 1",
        "{{ config(materialized='table') }} select {{ modules.re.sub('a', 'b', 'c') }}",
    ],
)
def test_a_dbt_model_of_the_project_alone(sql):
    assert not asks_warehouse(manifest(sql), full_refresh=False)


@pytest.mark.parametrize(
    "sql",
    [
        "{% set rows = run_query('select 1') %} select 1",
        "{% if execute %}{{ adapter.get_columns_in_relation(ref('a')) }}{% endif %}",
        "select '{{ run_started_at }}'",
        "select '{{ modules.datetime.datetime.now() }}'",
        "{{ hidden() }}",
        "{{ package.dispatched() }}",
    ],
)
@pytest.mark.parametrize("full_refresh", [True, False])
def test_a_dbt_model_that_asks_by_itself_or_by_a_macro(sql, full_refresh):
    macros = {
        "hidden": ("shop", "{% macro hidden() %}{{ deeper() }}{% endmacro %}"),
        "deeper": ("shop", "{% macro deeper() %}{% do run_query('x') %}{% endmacro %}"),
        "dispatched": ("package", "{{ return(adapter.dispatch('asked')()) }}"),
        "postgres__asked": ("package", "{{ adapter.get_relation('a', 'b', 'c') }}"),
    }
    assert asks_warehouse(manifest(sql, macros), full_refresh=full_refresh)


def test_an_incremental_dbt_model_asks_unless_it_is_built_anew():
    sql = "select 1 {% if is_incremental() %} where x > 1 {% endif %}"
    assert asks_warehouse(manifest(sql), full_refresh=False)
    assert not asks_warehouse(manifest(sql), full_refresh=True)
    assert asks_warehouse(manifest(sql, full_refresh=False), full_refresh=True)


def test_a_project_may_have_its_own_rule_for_building_anew():
    sql = "select 1 {% if is_incremental() %} where x > 1 {% endif %}"
    obeys = {"should_full_refresh": ("shop", "{{ return(flags.FULL_REFRESH or run_query('x')) }}")}
    ignores = {"should_full_refresh": ("shop", "{{ return(run_query('x')) }}")}
    assert not asks_warehouse(manifest(sql, obeys), full_refresh=True)
    assert asks_warehouse(manifest(sql, ignores), full_refresh=True)
    own = {"is_incremental": ("shop", "{{ return(run_query('x')) }}")}
    assert asks_warehouse(manifest(sql, own), full_refresh=True)


def test_the_serving_log_is_asked_for_only_when_dbt_builds():
    sql = "select * from {{ collected('serving', 'predictions') }}"
    ours = (SKELETON / "macros/serving_log.sql").read_text()
    assert not asks_warehouse(manifest(sql, {"collected": ("shop", ours)}), full_refresh=False)
    own = {"collected": ("shop", "{{ load_relation(source('serving', 'predictions')) }}")}
    assert asks_warehouse(manifest(sql, own), full_refresh=False)


def test_a_dbt_model_in_python_may_ask_anything():
    found = manifest("select 1")
    found["nodes"]["model.shop.m"]["language"] = "python"
    assert asks_warehouse(found, full_refresh=True)

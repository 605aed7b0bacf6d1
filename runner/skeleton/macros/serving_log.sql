{# Macros that read the serving log and events; `runner collect` writes their tables. #}

{#
    The rows of a source's table. Before the first `runner collect` there is no table: then the
    query returns no rows, with the columns that the source's YAML lists. `dbt compile` shows the
    table in any case.
#}
{% macro collected(source_name, table_name) -%}
    {%- set table = source(source_name, table_name) -%}
    {%- if execute and flags.WHICH != 'compile' and load_relation(table) is none -%}
        {{ no_rows(source_name, table_name) }}
    {%- else -%}
        select * from {{ table }}
    {%- endif -%}
{%- endmacro %}

{% macro no_rows(source_name, table_name) -%}
    {%- for node in graph.sources.values()
        if node.source_name == source_name and node.name == table_name -%}
        select
        {% for column in node.columns.values() -%}
            cast(null as {{ api.Column.translate_type(column.data_type) }}) as {{ column.name }}{{ ',' if not loop.last }}
        {% endfor -%}
        from (select 1 as nothing) as no_table where 1 = 0
    {%- endfor -%}
{%- endmacro %}


{# The text of the value `name` in a JSON object; null where there is none. #}
{% macro json_text(json, name) -%}
    {{ adapter.dispatch('json_text')(json, name) }}
{%- endmacro %}

{% macro postgres__json_text(json, name) -%}
    ({{ json }} ->> '{{ name }}')
{%- endmacro %}

{% macro bigquery__json_text(json, name) -%}
    json_value({{ json }}, '$."{{ name }}"')
{%- endmacro %}

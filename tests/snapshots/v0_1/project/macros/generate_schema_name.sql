{#
    Schemas are named as configured: feature_mart is feature_mart on every target.
    DBT_SCHEMA_PREFIX separates developers and test runs that share a database.
#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ env_var('DBT_SCHEMA_PREFIX', '') }}{{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}

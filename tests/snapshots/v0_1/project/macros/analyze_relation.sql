{#
    Give the planner its statistics at once: training joins a mart right after it is built, often
    before PostgreSQL's own analyze comes round.
#}
{% macro analyze_relation() -%}
    {{ adapter.dispatch('analyze_relation')() }}
{%- endmacro %}

{% macro postgres__analyze_relation() -%}
    analyze {{ this }}
{%- endmacro %}

{% macro bigquery__analyze_relation() -%}
{%- endmacro %}

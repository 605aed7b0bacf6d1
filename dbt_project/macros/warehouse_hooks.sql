{# What a warehouse wants before and after a big table is built. BigQuery sees to both itself. #}

{#
    Sort and group in memory: PostgreSQL's default of 4 MB spills the shop's windows to disk, which
    makes the marts a third slower. For the transaction only.
#}
{% macro sort_in_memory() -%}
    {{ adapter.dispatch('sort_in_memory')() }}
{%- endmacro %}

{% macro postgres__sort_in_memory() -%}
    set local work_mem = '64MB'
{%- endmacro %}

{% macro bigquery__sort_in_memory() -%}
{%- endmacro %}


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


{#
    Days, hours and casts of text depend on the session's time zone: UTC, whatever the server says.
    The runner's own dbt is in UTC from the start; this is for `dbt build` by itself.
#}
{% macro session_in_utc() -%}
    {{ adapter.dispatch('session_in_utc')() }}
{%- endmacro %}

{% macro postgres__session_in_utc() -%}
    set time zone 'UTC'
{%- endmacro %}

{% macro bigquery__session_in_utc() -%}
{%- endmacro %}

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

{#
    Timestamps of one meaning on every warehouse: UTC, a day is 24 hours.

    dbt's own dateadd does not fit: on PostgreSQL it follows the session's time zone and its summer
    time, on BigQuery it returns a DATETIME, which has no zone.
#}

{% macro add_days(timestamp, days) -%}
    {{ adapter.dispatch('add_days')(timestamp, days) }}
{%- endmacro %}

{% macro postgres__add_days(timestamp, days) -%}
    ({{ timestamp }} + interval '24 hours' * {{ days }})
{%- endmacro %}

{% macro bigquery__add_days(timestamp, days) -%}
    timestamp_add({{ timestamp }}, interval {{ days }} day)
{%- endmacro %}


{#
    Days from one timestamp to another, with fractions: whole microseconds, divided once, so that
    every warehouse rounds alike.
#}
{% macro days_between(earlier, later) -%}
    {{ adapter.dispatch('days_between')(earlier, later) }}
{%- endmacro %}

{% macro postgres__days_between(earlier, later) -%}
    cast(extract(epoch from ({{ later }} - {{ earlier }})) * 1000000 as double precision)
    / 86400000000
{%- endmacro %}

{% macro bigquery__days_between(earlier, later) -%}
    timestamp_diff({{ later }}, {{ earlier }}, microsecond) / 86400000000
{%- endmacro %}

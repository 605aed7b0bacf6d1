{#
    Timestamps of one meaning on every warehouse: UTC, a day is 24 hours.

    dbt's own dateadd and date_trunc do not fit: on PostgreSQL they follow the session's time zone
    and its summer time, on BigQuery dateadd returns a DATETIME, which has no zone.
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


{% macro add_minutes(timestamp, minutes) -%}
    {{ adapter.dispatch('add_minutes')(timestamp, minutes) }}
{%- endmacro %}

{% macro postgres__add_minutes(timestamp, minutes) -%}
    ({{ timestamp }} + interval '1 minute' * {{ minutes }})
{%- endmacro %}

{% macro bigquery__add_minutes(timestamp, minutes) -%}
    timestamp_add({{ timestamp }}, interval {{ minutes }} minute)
{%- endmacro %}


{# Whole microseconds since 1970: what a window's range can be counted in on every warehouse. #}
{% macro unix_micros(timestamp) -%}
    {{ adapter.dispatch('unix_micros')(timestamp) }}
{%- endmacro %}

{% macro postgres__unix_micros(timestamp) -%}
    cast(extract(epoch from {{ timestamp }}) * 1000000 as bigint)
{%- endmacro %}

{% macro bigquery__unix_micros(timestamp) -%}
    unix_micros({{ timestamp }})
{%- endmacro %}


{# The midnight that begins the timestamp's day. #}
{% macro midnight_before(timestamp) -%}
    {{ adapter.dispatch('midnight_before')(timestamp) }}
{%- endmacro %}

{% macro postgres__midnight_before(timestamp) -%}
    date_trunc('day', {{ timestamp }}, 'UTC')
{%- endmacro %}

{% macro bigquery__midnight_before(timestamp) -%}
    timestamp_trunc({{ timestamp }}, day)
{%- endmacro %}


{# The first midnight later than the timestamp: the first daily snapshot that it lies before. #}
{% macro midnight_after(timestamp) -%}
    {{ add_days(midnight_before(timestamp), 1) }}
{%- endmacro %}


{# The first midnight not earlier than the timestamp: the first daily snapshot that knows it. #}
{% macro midnight_from(timestamp) -%}
    {{ adapter.dispatch('midnight_from')(timestamp) }}
{%- endmacro %}

{% macro postgres__midnight_from(timestamp) -%}
    (
        date_trunc('day', {{ timestamp }} - interval '1 microsecond', 'UTC')
        + interval '24 hours'
    )
{%- endmacro %}

{% macro bigquery__midnight_from(timestamp) -%}
    timestamp_add(
        timestamp_trunc(timestamp_sub({{ timestamp }}, interval 1 microsecond), day),
        interval 1 day
    )
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


{# Every midnight from the first to the last, both included: an item of a from clause. #}
{% macro midnights(first, last, alias) -%}
    {{ adapter.dispatch('midnights')(first, last, alias) }}
{%- endmacro %}

{% macro postgres__midnights(first, last, alias) -%}
    generate_series({{ first }}, {{ last }}, interval '24 hours') as {{ alias }}
{%- endmacro %}

{% macro bigquery__midnights(first, last, alias) -%}
    unnest(generate_timestamp_array({{ first }}, {{ last }}, interval 1 day)) as {{ alias }}
{%- endmacro %}


{# The type of a timestamp that means one instant. #}
{% macro type_timestamp_utc() -%}
    {{ adapter.dispatch('type_timestamp_utc')() }}
{%- endmacro %}

{% macro postgres__type_timestamp_utc() -%}
    timestamptz
{%- endmacro %}

{% macro bigquery__type_timestamp_utc() -%}
    timestamp
{%- endmacro %}

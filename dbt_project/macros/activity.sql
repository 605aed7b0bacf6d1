{#
    What a group of rows of int_window_changes says. A running sum of the changes in a window is
    the window's value at that snapshot.
#}

{% macro change_in_window(activity_type, window_days, change='row_change') -%}
    sum(
        case
            when activity_type = '{{ activity_type }}' and window_days = {{ window_days }}
                then {{ change }}
            else 0
        end
    )
{%- endmacro %}

{% macro last_occurred_at(activity_type) -%}
    max(case when activity_type = '{{ activity_type }}' then occurred_at end)
{%- endmacro %}

{# Days since the event, with fractions; null when there was none `within` so many days. #}
{% macro days_since(event_at, snapshot_at, within) -%}
    case
        when {{ event_at }} >= {{ add_days(snapshot_at, -1 * within) }}
            then {{ days_between(event_at, snapshot_at) }}
    end
{%- endmacro %}

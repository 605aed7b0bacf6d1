{#
    The rows that were pushed to a feature mart, for a union in its SQL: one per entity and event
    time, the last that was received. `received_at` is when it became known.

    An item of a from clause, such as `from {{ pushed_rows(source('web', 'sessions'), ['user_id']) }}`.
#}
{% macro pushed_rows(relation, keys, event_timestamp='event_timestamp') -%}
    (
        select *
        from (
            select
                *,
                row_number() over (
                    partition by {{ (keys + [event_timestamp]) | join(', ') }}
                    order by received_at desc, push_id desc
                ) as place_in_instant
            from {{ relation }}
        ) as received
        where place_in_instant = 1
    ) as pushed
{%- endmacro %}

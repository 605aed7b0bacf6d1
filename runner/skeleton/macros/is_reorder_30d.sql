{#
    The definition of the label, for both the spine that trains on it and the outcome model that
    joins it to what was served.

    `asked` is a CTE with `customer_id` and `event_timestamp`. Returns one row per distinct row of
    it whose 30 days are over: whether the customer ordered again within them.
#}
{% macro is_reorder_30d(asked) -%}
    select
        decided.customer_id,
        decided.event_timestamp,
        max(case when orders.customer_id is null then 0 else 1 end) = 1 as is_reorder_30d

    from (
        select distinct
            asked.customer_id,
            asked.event_timestamp

        from {{ asked }} as asked

        inner join (
            select max(ordered_at) as newest_ordered_at from {{ ref('stg_sales__orders') }}
        ) as newest
            on {{ add_days('asked.event_timestamp', 30) }} <= newest.newest_ordered_at
    ) as decided

    left join {{ ref('stg_sales__orders') }} as orders
        on
            decided.customer_id = orders.customer_id
            and decided.event_timestamp < orders.ordered_at
            and orders.ordered_at <= {{ add_days('decided.event_timestamp', 30) }}

    group by 1, 2
{%- endmacro %}

{#
    The definition of each label, for both the spine that trains on it and the outcome model that
    joins it to what was served.

    `asked` is a CTE with the entity keys and `event_timestamp`. A macro returns one row per
    distinct row of it whose label is decided: the label's 7 days are over, and the 3 days in which
    orders may arrive late.
#}

{# 1 when the user orders in the category in [event_timestamp, event_timestamp + 7 days). #}
{% macro is_purchase_7d(asked) -%}
    select
        decided.user_id,
        decided.category_id,
        decided.event_timestamp,
        cast(
            max(case when orders.order_id is null then 0 else 1 end) as {{ dbt.type_bigint() }}
        ) as is_purchase_7d

    from {{ decided(asked, ['user_id', 'category_id']) }} as decided

    left join {{ ref('stg_shop__orders') }} as orders
        on
            decided.user_id = orders.user_id
            and decided.category_id = orders.category_id
            and decided.event_timestamp <= orders.ordered_at
            and orders.ordered_at < {{ add_days('decided.event_timestamp', 7) }}
            and orders.loaded_at <= {{ add_days('decided.event_timestamp', 7 + 3) }}

    group by 1, 2, 3
{%- endmacro %}


{# 1 when the user orders in the category offered in (event_timestamp, event_timestamp + 7 days). #}
{% macro is_cross_sell_7d(asked) -%}
    select
        decided.user_id,
        decided.offered,
        decided.event_timestamp,
        cast(
            max(case when orders.order_id is null then 0 else 1 end) as {{ dbt.type_bigint() }}
        ) as is_cross_sell_7d

    from {{ decided(asked, ['user_id', 'offered']) }} as decided

    left join {{ ref('stg_shop__orders') }} as orders
        on
            decided.user_id = orders.user_id
            and decided.offered = orders.category_id
            and decided.event_timestamp < orders.ordered_at
            and orders.ordered_at < {{ add_days('decided.event_timestamp', 7) }}
            and orders.loaded_at <= {{ add_days('decided.event_timestamp', 7 + 3) }}

    group by 1, 2, 3
{%- endmacro %}


{# US dollars spent in [event_timestamp, event_timestamp + 7 days), without cancelled orders. #}
{% macro spend_7d_usd(asked) -%}
    select
        decided.user_id,
        decided.event_timestamp,
        cast(coalesce(sum(orders.amount_usd), 0) as {{ dbt.type_float() }}) as spend_7d_usd

    from {{ decided(asked, ['user_id']) }} as decided

    left join {{ ref('int_activity_versions') }} as orders
        on
            orders.activity_type = 'order'
            and decided.user_id = orders.user_id
            and decided.event_timestamp <= orders.occurred_at
            and orders.occurred_at < {{ add_days('decided.event_timestamp', 7) }}
            -- as it was known then: a later correction would move a label that is decided
            and orders.known_from <= {{ add_days('decided.event_timestamp', 7 + 3) }}
            and (
                orders.known_until is null
                or orders.known_until > {{ add_days('decided.event_timestamp', 7 + 3) }}
            )

    group by 1, 2
{%- endmacro %}


{% macro decided(asked, keys) -%}
    (
        select distinct
            {% for key in keys -%}
            asked.{{ key }},
            {% endfor -%}
            asked.event_timestamp

        from {{ asked }} as asked

        inner join (
            select max(loaded_until) as loaded_until from {{ ref('stg_shop__loads') }}
        ) as loads
            on {{ add_days('asked.event_timestamp', 7 + 3) }} <= loads.loaded_until
    )
{%- endmacro %}

with

recommendations as (

    select distinct
        user_id,
        recommended_at

    from {{ ref('stg_shop__recommendations') }}

),

orders as (

    select * from {{ ref('int_activity_versions') }}

    where activity_type = 'order'

),

loads as (

    select max(loaded_until) as loaded_until from {{ ref('stg_shop__loads') }}

),

-- The label is decided when its 7 days are over and the 3 days in which orders may arrive late.
known as (

    select recommendations.*

    from recommendations

    inner join loads
        on {{ add_days('recommendations.recommended_at', 7 + 3) }} <= loads.loaded_until

),

spine as (

    select
        known.user_id,
        known.recommended_at as event_timestamp,
        cast(coalesce(sum(orders.amount_usd), 0) as {{ dbt.type_float() }}) as spend_7d_usd

    from known

    left join orders
        on
            known.user_id = orders.user_id
            and known.recommended_at <= orders.occurred_at
            and orders.occurred_at < {{ add_days('known.recommended_at', 7) }}
            -- as it was known then: a later correction would move a label that is decided
            and orders.known_from <= {{ add_days('known.recommended_at', 7 + 3) }}
            and (
                orders.known_until is null
                or orders.known_until > {{ add_days('known.recommended_at', 7 + 3) }}
            )

    group by 1, 2

)

select * from spine

with

recommendations as (

    select * from {{ ref('stg_shop__recommendations') }}

),

orders as (

    select * from {{ ref('stg_shop__orders') }}

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
        known.category_id,
        known.recommended_at as event_timestamp,
        cast(
            max(case when orders.order_id is null then 0 else 1 end) as {{ dbt.type_bigint() }}
        ) as is_purchase_7d

    from known

    left join orders
        on
            known.user_id = orders.user_id
            and known.category_id = orders.category_id
            and known.recommended_at <= orders.ordered_at
            and orders.ordered_at < {{ add_days('known.recommended_at', 7) }}
            and orders.loaded_at <= {{ add_days('known.recommended_at', 7 + 3) }}

    group by 1, 2, 3

)

select * from spine

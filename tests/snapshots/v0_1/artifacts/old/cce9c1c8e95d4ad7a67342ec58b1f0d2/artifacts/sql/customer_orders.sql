

with

orders as (

    select * from "old"."staging"."stg_sales__orders"

),

-- A frame by range ends with every order of the same instant, whatever their order.
running as (

    select
        customer_id,
        ordered_at,
        channel,
        count(*) over so_far as orders_count_all,
        avg(amount_usd) over so_far as order_value_mean_all_usd,
        min(ordered_at) over so_far as first_ordered_at,
        row_number() over (
            partition by customer_id, ordered_at
            order by order_id desc
        ) as place_in_instant

    from orders

    window
        so_far as (
            partition by customer_id
            order by ordered_at
        )

),

history as (

    select
        customer_id,
        -- The order itself is in its row: the question is asked right after it.
        ordered_at as event_timestamp,
        orders_count_all,
        order_value_mean_all_usd,
        cast(extract(epoch from (ordered_at - first_ordered_at)) * 1000000 as double precision)
    / 86400000000 as days_since_first_order,
        channel as last_channel

    from running

    -- one row per instant
    where place_in_instant = 1

)

select * from history
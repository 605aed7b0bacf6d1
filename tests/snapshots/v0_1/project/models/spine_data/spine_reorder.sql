with

orders as (

    select distinct
        customer_id,
        ordered_at

    from {{ ref('stg_sales__orders') }}

),

-- Look ahead first and leave rows out after: the other way round, the answers would go too.
with_next_order as (

    select
        customer_id,
        ordered_at,
        lead(ordered_at) over (
            partition by customer_id
            order by ordered_at
        ) as next_ordered_at,
        max(ordered_at) over () as newest_ordered_at

    from orders

),

spine as (

    select
        customer_id,
        ordered_at as event_timestamp,
        coalesce(next_ordered_at <= {{ add_days('ordered_at', 30) }}, false) as is_reorder_30d

    from with_next_order

    -- the 30 days are over, so the answer is known
    where {{ add_days('ordered_at', 30) }} <= newest_ordered_at

)

select * from spine

with

orders as (

    select * from {{ ref('stg_shop__orders') }}

),

categories as (

    select
        category_id,
        count(*) over () as categories_count

    from {{ ref('stg_shop__categories') }}

),

loads as (

    select max(loaded_until) as loaded_until from {{ ref('stg_shop__loads') }}

),

first_versions as (

    select
        order_id,
        min(change_seq) as change_seq

    from orders

    group by 1

),

-- As the user saw it: a correction comes later.
checkouts as (

    select orders.*

    from orders

    inner join first_versions
        on orders.change_seq = first_versions.change_seq

),

-- One other category for each order, taken in turn.
offers as (

    select
        checkouts.order_id,
        checkouts.user_id,
        checkouts.category_id as bought,
        categories.category_id as offered,
        checkouts.ordered_at as event_timestamp,
        cast(checkouts.amount_usd as {{ dbt.type_float() }}) as order_value_usd

    from checkouts

    inner join categories
        on
            mod(checkouts.order_id, categories.categories_count) + 1 = categories.category_id
            and checkouts.category_id != categories.category_id

),

-- The label is decided when its 7 days are over and the 3 days in which orders may arrive late.
known as (

    select offers.*

    from offers

    inner join loads
        on {{ add_days('offers.event_timestamp', 7 + 3) }} <= loads.loaded_until

),

spine as (

    select
        known.order_id,
        known.user_id,
        known.bought,
        known.offered,
        known.event_timestamp,
        known.order_value_usd,
        cast(
            max(case when orders.order_id is null then 0 else 1 end) as {{ dbt.type_bigint() }}
        ) as is_cross_sell_7d

    from known

    left join orders
        on
            known.user_id = orders.user_id
            and known.offered = orders.category_id
            and known.event_timestamp < orders.ordered_at
            and orders.ordered_at < {{ add_days('known.event_timestamp', 7) }}
            and orders.loaded_at <= {{ add_days('known.event_timestamp', 7 + 3) }}

    group by 1, 2, 3, 4, 5, 6

)

select * from spine

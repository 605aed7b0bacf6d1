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

labels as (

    {{ is_cross_sell_7d('offers') }}

),

spine as (

    select
        offers.order_id,
        offers.user_id,
        offers.bought,
        offers.offered,
        offers.event_timestamp,
        offers.order_value_usd,
        labels.is_cross_sell_7d

    from offers

    inner join labels
        on
            offers.user_id = labels.user_id
            and offers.offered = labels.offered
            and offers.event_timestamp = labels.event_timestamp

)

select * from spine

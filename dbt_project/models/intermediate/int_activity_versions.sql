with

events as (

    select * from {{ ref('stg_shop__events') }}

),

orders as (

    select * from {{ ref('stg_shop__orders') }}

),

order_versions as (

    select
        *,
        lead(loaded_at) over (
            partition by order_id
            order by loaded_at, change_seq
        ) as superseded_at

    from orders

),

activity_versions as (

    select
        user_id,
        category_id,
        event_type as activity_type,
        occurred_at,
        loaded_at as known_from,
        cast(null as {{ type_timestamp_utc() }}) as known_until,
        cast(0 as {{ dbt.type_numeric() }}) as amount_usd

    from events

    union all

    select
        user_id,
        category_id,
        'order' as activity_type,
        ordered_at as occurred_at,
        loaded_at as known_from,
        superseded_at as known_until,
        amount_usd

    from order_versions

    -- a cancelled version only ends the one before it
    where status <> 'cancelled'

)

select * from activity_versions

{{
    config(
        materialized='incremental',
        unique_key=['user_id', 'event_timestamp'],
        indexes=[{'columns': ['user_id', 'event_timestamp desc'], 'unique': true}],
        partition_by={'field': 'event_timestamp', 'data_type': 'timestamp', 'granularity': 'day'},
        cluster_by=['user_id'],
    )
}}

with

snapshots as (

    select snapshot_at

    from {{ ref('int_snapshots') }}

    {% if is_incremental() %}
        -- a snapshot holds what was known at its time: late rows change none that is there
        where snapshot_at > (select max(built.event_timestamp) from {{ this }} as built)
    {% endif %}

),

users as (

    select
        user_id,
        signed_up_at,
        greatest(
            {{ midnight_from('known_from') }},
            (select min(snapshots.snapshot_at) from snapshots)
        ) as first_snapshot_at

    from {{ ref('int_users') }}

),

changes as (

    select *

    from {{ ref('int_window_changes') }}

    -- the longest look back
    where
        occurred_at >= (
            select {{ add_days('min(snapshots.snapshot_at)', -90) }} from snapshots
        )

),

daily_changes as (

    select
        changes.user_id,
        -- what came before the user's first snapshot is its opening balance
        greatest(changes.snapshot_at, users.first_snapshot_at) as snapshot_at,
        {{ change_in_window('view', 7) }} as views_7d,
        {{ change_in_window('view', 30) }} as views_30d,
        {{ change_in_window('cart', 7) }} as carts_7d,
        {{ change_in_window('cart', 30) }} as carts_30d,
        {{ change_in_window('order', 7) }} as orders_7d,
        {{ change_in_window('order', 30) }} as orders_30d,
        {{ change_in_window('order', 7, 'amount_change_usd') }} as order_value_7d,
        {{ change_in_window('order', 30, 'amount_change_usd') }} as order_value_30d,
        {{ last_occurred_at('view') }} as last_viewed_at,
        {{ last_occurred_at('order') }} as last_ordered_at

    from changes

    inner join users
        on changes.user_id = users.user_id

    group by 1, 2

),

totals as (

    select
        users.user_id,
        users.signed_up_at,
        snapshots.snapshot_at,
        coalesce(sum(daily_changes.views_7d) over so_far, 0) as views_7d,
        coalesce(sum(daily_changes.views_30d) over so_far, 0) as views_30d,
        coalesce(sum(daily_changes.carts_7d) over so_far, 0) as carts_7d,
        coalesce(sum(daily_changes.carts_30d) over so_far, 0) as carts_30d,
        coalesce(sum(daily_changes.orders_7d) over so_far, 0) as orders_7d,
        coalesce(sum(daily_changes.orders_30d) over so_far, 0) as orders_30d,
        coalesce(sum(daily_changes.order_value_7d) over so_far, 0) as order_value_7d,
        coalesce(sum(daily_changes.order_value_30d) over so_far, 0) as order_value_30d,
        max(daily_changes.last_viewed_at) over so_far as last_viewed_at,
        max(daily_changes.last_ordered_at) over so_far as last_ordered_at

    from users

    inner join snapshots
        on users.first_snapshot_at <= snapshots.snapshot_at

    left join daily_changes
        on
            users.user_id = daily_changes.user_id
            and snapshots.snapshot_at = daily_changes.snapshot_at

    window so_far as (
        partition by users.user_id
        order by snapshots.snapshot_at
        rows between unbounded preceding and current row
    )

),

activity as (

    select
        user_id,
        snapshot_at as event_timestamp,
        cast(views_7d as {{ dbt.type_bigint() }}) as views_7d,
        cast(views_30d as {{ dbt.type_bigint() }}) as views_30d,
        cast(carts_7d as {{ dbt.type_bigint() }}) as carts_7d,
        cast(carts_30d as {{ dbt.type_bigint() }}) as carts_30d,
        cast(orders_7d as {{ dbt.type_bigint() }}) as orders_7d,
        cast(orders_30d as {{ dbt.type_bigint() }}) as orders_30d,
        cast(order_value_7d as {{ dbt.type_float() }}) as order_value_sum_7d_usd,
        cast(order_value_30d as {{ dbt.type_float() }}) as order_value_sum_30d_usd,
        cast(order_value_30d as {{ dbt.type_float() }})
        / nullif(orders_30d, 0) as order_value_mean_30d_usd,
        {{ days_since('last_viewed_at', 'snapshot_at', within=90) }} as days_since_last_view,
        {{ days_since('last_ordered_at', 'snapshot_at', within=90) }} as days_since_last_order,
        {{ days_between('signed_up_at', 'snapshot_at') }} as days_since_sign_up

    from totals

)

select * from activity

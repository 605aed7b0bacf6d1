{{
    config(
        materialized='incremental',
        unique_key=['user_id', 'category_id', 'event_timestamp'],
        indexes=[{'columns': ['user_id', 'category_id', 'event_timestamp desc'], 'unique': true}],
        partition_by={'field': 'event_timestamp', 'data_type': 'timestamp', 'granularity': 'day'},
        cluster_by=['user_id', 'category_id'],
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

changes as (

    select *

    from {{ ref('int_window_changes') }}

    -- the longest window, and the day on which a row leaves it
    where
        category_id is not null
        and occurred_at >= (
            select {{ add_days('min(snapshots.snapshot_at)', -31) }} from snapshots
        )

),

daily_changes as (

    select
        user_id,
        category_id,
        snapshot_at,
        {{ change_in_window('view', 7) }} as views_7d,
        {{ change_in_window('view', 30) }} as views_30d,
        {{ change_in_window('cart', 7) }} as carts_7d,
        {{ change_in_window('cart', 30) }} as carts_30d,
        {{ change_in_window('order', 7) }} as orders_7d,
        {{ change_in_window('order', 30) }} as orders_30d

    from changes

    group by 1, 2, 3

),

totals as (

    select
        user_id,
        category_id,
        snapshot_at as event_timestamp,
        cast(sum(views_7d) over so_far as {{ dbt.type_bigint() }}) as views_7d,
        cast(sum(views_30d) over so_far as {{ dbt.type_bigint() }}) as views_30d,
        cast(sum(carts_7d) over so_far as {{ dbt.type_bigint() }}) as carts_7d,
        cast(sum(carts_30d) over so_far as {{ dbt.type_bigint() }}) as carts_30d,
        cast(sum(orders_7d) over so_far as {{ dbt.type_bigint() }}) as orders_7d,
        cast(sum(orders_30d) over so_far as {{ dbt.type_bigint() }}) as orders_30d

    from daily_changes

    window so_far as (
        partition by user_id, category_id
        order by snapshot_at
        rows between unbounded preceding and current row
    )

),

affinity as (

    select totals.*

    from totals

    inner join snapshots
        on totals.event_timestamp = snapshots.snapshot_at

)

select * from affinity

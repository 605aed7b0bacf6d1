{{
    config(
        indexes=[
            {'columns': ['user_id', 'event_timestamp desc', 'created_at desc'], 'unique': true},
        ],
        partition_by={'field': 'event_timestamp', 'data_type': 'timestamp', 'granularity': 'day'},
        cluster_by=['user_id'],
    )
}}

with

users as (

    select * from {{ ref('stg_shop__users') }}

),

ranked as (

    select
        *,

        -- the newest change known when this row arrived
        max(updated_at) over (
            partition by user_id
            order by loaded_at
        ) as newest_updated_at,

        -- of several rows on one change in one load, the log's last one holds
        row_number() over (
            partition by user_id, updated_at, loaded_at
            order by change_seq desc
        ) as reverse_position

    from users

),

-- A change that arrives when a newer one is known already never holds.
visible as (

    select *

    from ranked

    where
        updated_at = newest_updated_at
        and reverse_position = 1

),

demographics as (

    select
        user_id,
        -- a correction keeps the change's own time: it never outdates a newer change
        min(loaded_at) over (partition by user_id, updated_at) as event_timestamp,
        loaded_at as created_at,
        cast(age_years as {{ dbt.type_bigint() }}) as age_years,
        country,
        device,
        acquisition_channel,
        is_subscriber

    from visible

)

select * from demographics

{{
    config(
        materialized='incremental',
        unique_key=['user_id', 'event_timestamp'],
        indexes=[
            {'columns': ['user_id', 'event_timestamp desc'], 'unique': true},
            {'columns': ['created_at']},
        ],
        partition_by={'field': 'event_timestamp', 'data_type': 'timestamp', 'granularity': 'day'},
        cluster_by=['user_id'],
    )
}}

with

page_views as (

    select * from {{ ref('stg_web__page_views') }}

),

arrivals as (

    select
        user_id,
        min(received_at) as first_received_at,
        min(least(received_at, collected_at)) as first_seen_at

    from page_views

    {% if is_incremental() %}
        where
            collected_at > (
                -- an empty mart reads every view
                select
                    coalesce(
                        max(built.created_at),
                        cast('1970-01-01 00:00:00+00' as {{ type_timestamp_utc() }})
                    )
                from {{ this }} as built
            )
    {% endif %}

    group by 1

),

first_window as (

    -- 30 minutes, and one for clocks that differ; the earlier time counts if the API's clock jumped
    select {{ add_minutes('min(first_seen_at)', -31) }} as begins_at

    from arrivals

),

recent_views as (

    select
        page_views.*,
        arrivals.first_received_at,
        {{ unix_micros('page_views.received_at') }} as received_micros

    from page_views

    inner join arrivals
        on page_views.user_id = arrivals.user_id

    where page_views.collected_at >= (select first_window.begins_at from first_window)

),

windows as (

    select
        user_id,
        first_received_at,
        received_at,
        max(collected_at) over last_30m as known_at,
        count(*) over last_5m as views_5m,
        count(*) over last_30m as views_30m,
        received_micros - lag(received_micros) over each_view as micros_since_last_view,
        row_number() over (
            partition by user_id, received_at
            order by view_id desc
        ) as view_number

    from recent_views

    window
        each_view as (
            partition by user_id
            order by received_micros, view_id
        ),
        last_5m as (
            partition by user_id
            order by received_micros
            range between 300000000 preceding and current row
        ),
        last_30m as (
            partition by user_id
            order by received_micros
            range between 1800000000 preceding and current row
        )

),

sessions as (

    select
        user_id,
        received_at as event_timestamp,
        known_at as created_at,
        cast(views_5m as {{ dbt.type_bigint() }}) as views_5m,
        cast(views_30m as {{ dbt.type_bigint() }}) as views_30m,
        case
            when micros_since_last_view <= 1800000000
                then cast(micros_since_last_view as {{ dbt.type_float() }}) / 1000000
        end as seconds_since_last_view

    from windows

    -- a late view also counts in those after it; of two at one instant there is one row
    where
        received_at >= first_received_at
        and view_number = 1

)

select * from sessions

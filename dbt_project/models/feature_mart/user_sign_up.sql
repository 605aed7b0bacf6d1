{{
    config(
        indexes=[{'columns': ['user_id', 'event_timestamp desc'], 'unique': true}],
        partition_by={'field': 'event_timestamp', 'data_type': 'timestamp', 'granularity': 'day'},
        cluster_by=['user_id'],
    )
}}

with

users as (

    select * from {{ ref('int_users') }}

),

sign_ups as (

    select
        user_id,
        known_from as event_timestamp,
        signed_up_at

    from users

)

select * from sign_ups

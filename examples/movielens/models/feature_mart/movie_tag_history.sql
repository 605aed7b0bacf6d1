{{
    config(
        indexes=[{'columns': ['movie_id', 'event_timestamp'], 'unique': true}],
    )
}}

with

tags as (

    select * from {{ ref('stg_movielens__tags') }}

),

tags_per_second as (

    select
        movie_id,
        known_from,
        count(*) as tags_count

    from tags

    group by 1, 2

),

history as (

    select
        movie_id,
        known_from as event_timestamp,
        cast(
            sum(tags_count) over (
                partition by movie_id
                order by known_from
            ) as bigint
        ) as tags_count_all

    from tags_per_second

)

select * from history

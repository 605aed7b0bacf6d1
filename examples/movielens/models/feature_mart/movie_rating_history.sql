{{
    config(
        indexes=[{'columns': ['movie_id', 'event_timestamp'], 'unique': true}],
    )
}}

with

ratings as (

    select * from {{ ref('stg_movielens__ratings') }}

),

-- A frame by range ends with every rating of the same second, whatever their order.
running as (

    select
        movie_id,
        known_from,
        count(*) over so_far as ratings_count_all,
        avg(rating_stars) over so_far as rating_mean_all,
        stddev_samp(rating_stars) over so_far as rating_stddev_all,
        avg(cast(is_liked as integer)) over so_far as liked_share_all,
        count(*) over last_365d as ratings_count_365d,
        row_number() over (
            partition by movie_id, known_from
            order by user_id desc
        ) as place_in_second

    from ratings

    window
        so_far as (
            partition by movie_id
            order by rated_at
            range between unbounded preceding and current row
        ),
        last_365d as (
            partition by movie_id
            order by rated_at
            range between interval '8760 hours' preceding and current row
        )

),

history as (

    select
        movie_id,
        known_from as event_timestamp,
        ratings_count_all,
        cast(rating_mean_all as double precision) as rating_mean_all,
        cast(rating_stddev_all as double precision) as rating_stddev_all,
        cast(liked_share_all as double precision) as liked_share_all,
        ratings_count_365d

    from running

    -- one row per second: its ratings have the same frames
    where place_in_second = 1

)

select * from history

{{
    config(
        indexes=[{'columns': ['user_id', 'event_timestamp'], 'unique': true}],
    )
}}

with

ratings as (

    select * from {{ ref('stg_movielens__ratings') }}

),

-- A frame by range ends with every rating of the same second, whatever their order.
running as (

    select
        user_id,
        known_from,
        count(*) over so_far as ratings_count_all,
        avg(rating_stars) over so_far as rating_mean_all,
        stddev_samp(rating_stars) over so_far as rating_stddev_all,
        avg(cast(is_liked as integer)) over so_far as liked_share_all,
        avg(rating_stars) over newest_20 as rating_mean_last_20,
        count(*) over last_24h as ratings_count_24h,
        extract(epoch from rated_at - min(rated_at) over so_far) / 86400 as days_since_first_rating,
        row_number() over (
            partition by user_id, known_from
            order by movie_id desc
        ) as place_in_second

    from ratings

    window
        so_far as (
            partition by user_id
            order by rated_at
            range between unbounded preceding and current row
        ),
        last_24h as (
            partition by user_id
            order by rated_at
            range between interval '24 hours' preceding and current row
        ),
        newest_20 as (
            partition by user_id
            order by rated_at, movie_id
            rows between 19 preceding and current row
        )

),

history as (

    select
        user_id,
        known_from as event_timestamp,
        ratings_count_all,
        cast(rating_mean_all as double precision) as rating_mean_all,
        cast(rating_stddev_all as double precision) as rating_stddev_all,
        cast(liked_share_all as double precision) as liked_share_all,
        cast(rating_mean_last_20 as double precision) as rating_mean_last_20,
        ratings_count_24h,
        cast(days_since_first_rating as double precision) as days_since_first_rating

    from running

    -- the last of a second has all of it in its frames
    where place_in_second = 1

)

select * from history

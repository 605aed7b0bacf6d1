with

ratings as (

    select * from {{ ref('stg_movielens__ratings') }}

),

spine as (

    select
        user_id,
        movie_id,
        rated_at as event_timestamp,
        is_liked

    from ratings

)

select * from spine

with

source as (

    select * from {{ source('movielens', 'ratings') }}

),

renamed as (

    select

        ---------- ids
        user_id,
        movie_id,

        ---------- numerics
        rating as rating_stars,

        ---------- booleans
        rating >= 4 as is_liked,

        ---------- timestamps
        to_timestamp(rated_epoch) as rated_at,
        -- The files cut fractions of a second off: a rating of second t may have come at any
        -- moment before t + 1 s. Only then is it known, and so are all others of second t.
        to_timestamp(rated_epoch + 1) as known_from

    from source

)

select * from renamed

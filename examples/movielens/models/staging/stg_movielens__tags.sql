with

source as (

    select * from {{ source('movielens', 'tags') }}

),

renamed as (

    select

        ---------- ids
        user_id,
        movie_id,

        ---------- text
        tag,

        ---------- timestamps
        to_timestamp(tagged_epoch) as tagged_at,
        -- as for ratings: the second must be over
        to_timestamp(tagged_epoch + 1) as known_from

    from source

)

select * from renamed

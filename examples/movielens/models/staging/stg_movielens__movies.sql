with

source as (

    select * from {{ source('movielens', 'movies') }}

),

renamed as (

    select

        ---------- ids
        movie_id,

        ---------- text
        trim(title) as title,
        nullif(genres, '(no genres listed)') as genres,

        ---------- numerics
        -- 'Toy Story (1995)'; a series has 'Fawlty Towers (1975-1979)', of which the first year
        cast(substring(title from '\((\d{4})(?:-\d{0,4})?\)\s*$') as integer) as release_year

    from source

)

select * from renamed

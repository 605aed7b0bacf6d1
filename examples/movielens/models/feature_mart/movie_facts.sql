{{
    config(
        indexes=[{'columns': ['movie_id', 'event_timestamp'], 'unique': true}],
    )
}}

{% set genres = [
    'Action',
    'Adventure',
    'Animation',
    'Children',
    'Comedy',
    'Crime',
    'Documentary',
    'Drama',
    'Fantasy',
    'Horror',
    'Romance',
    'Sci-Fi',
    'Thriller',
    'War',
] %}

with

movies as (

    select * from {{ ref('stg_movielens__movies') }}

),

facts as (

    select
        movie_id,
        -- The files do not say when a movie was added. Its year and genres are public from its
        -- release on, so before anybody can rate it: known since ever.
        to_timestamp(0) as event_timestamp,
        release_year,
        {% for genre in genres %}
            coalesce('{{ genre }}' = any(string_to_array(genres, '|')), false)
                as is_{{ genre | lower | replace('-', '_') }},
        {% endfor %}
        genres

    from movies

)

select * from facts

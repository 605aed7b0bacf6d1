with

source as (

    select * from {{ source('shop', 'recommendations') }}

),

renamed as (

    select

        ---------- ids
        id as recommendation_id,
        user_id,
        category_id,

        ---------- timestamps
        recommended_at,
        loaded_at

    from source

)

select * from renamed

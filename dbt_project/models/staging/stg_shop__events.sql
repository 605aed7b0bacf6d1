with

source as (

    select * from {{ source('shop', 'events') }}

),

renamed as (

    select

        ---------- ids
        id as event_id,
        user_id,
        category_id,

        ---------- text
        event_type,

        ---------- timestamps
        occurred_at,
        loaded_at

    from source

)

select * from renamed

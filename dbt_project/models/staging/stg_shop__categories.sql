with

source as (

    select * from {{ source('shop', 'categories') }}

),

renamed as (

    select

        ---------- ids
        id as category_id,

        ---------- text
        name as category_name,

        ---------- timestamps
        loaded_at

    from source

)

select * from renamed

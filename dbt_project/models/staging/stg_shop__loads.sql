with

source as (

    select * from {{ source('shop', 'loads') }}

),

renamed as (

    select

        ---------- timestamps
        loaded_from,
        loaded_until

    from source

)

select * from renamed

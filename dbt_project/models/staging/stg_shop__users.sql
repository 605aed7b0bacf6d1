with

source as (

    select * from {{ source('shop', 'users') }}

),

renamed as (

    select

        ---------- ids
        change_seq,
        id as user_id,

        ---------- profile
        age as age_years,
        country,
        device,
        channel as acquisition_channel,
        is_subscriber,

        ---------- timestamps
        updated_at,
        loaded_at

    from source

)

select * from renamed

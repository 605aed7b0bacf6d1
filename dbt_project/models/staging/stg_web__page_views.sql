with

source as (

    {{ collected('web', 'page_views') }}

),

renamed as (

    select

        ---------- ids
        view_id,
        user_id,
        category_id,

        ---------- timestamps
        viewed_at,
        received_at,
        collected_at

    from source

)

select * from renamed

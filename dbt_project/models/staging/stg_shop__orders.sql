with

source as (

    select * from {{ source('shop', 'orders') }}

),

renamed as (

    select

        ---------- ids
        change_seq,
        id as order_id,
        user_id,
        category_id,

        ---------- text
        status,

        ---------- numerics
        cast(amount as {{ dbt.type_numeric() }}) as amount_usd,

        ---------- timestamps
        ordered_at,
        loaded_at

    from source

)

select * from renamed

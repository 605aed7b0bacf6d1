with

source as (

    select * from {{ source('sales', 'orders') }}

),

renamed as (

    select

        ---------- ids
        cast(id as {{ dbt.type_bigint() }}) as order_id,
        cast(customer_id as {{ dbt.type_bigint() }}) as customer_id,

        ---------- text
        channel,

        ---------- numerics
        cast(amount as {{ dbt.type_float() }}) as amount_usd,

        ---------- timestamps
        ordered_at

    from source

)

select * from renamed

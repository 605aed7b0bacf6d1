with

asked as (

    select
        customer_id,
        ordered_at as event_timestamp

    from {{ ref('stg_sales__orders') }}

),

spine as (

    {{ is_reorder_30d('asked') }}

)

select * from spine

with

asked as (

    select
        user_id,
        category_id,
        recommended_at as event_timestamp

    from {{ ref('stg_shop__recommendations') }}

),

spine as (

    {{ is_purchase_7d('asked') }}

)

select * from spine

with

asked as (

    select
        user_id,
        recommended_at as event_timestamp

    from {{ ref('stg_shop__recommendations') }}

),

spine as (

    {{ spend_7d_usd('asked') }}

)

select * from spine

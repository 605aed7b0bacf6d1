with

users as (

    select * from {{ ref('stg_shop__users') }}

),

numbered as (

    select
        user_id,
        updated_at as signed_up_at,
        loaded_at as known_from,
        row_number() over (
            partition by user_id
            order by loaded_at, change_seq
        ) as change_number

    from users

),

first_changes as (

    select
        user_id,
        signed_up_at,
        known_from

    from numbered

    where change_number = 1

)

select * from first_changes

with

loads as (

    select * from {{ ref('stg_shop__loads') }}

),

loaded as (

    select
        {{ midnight_from('min(loaded_from)') }} as first_snapshot_at,
        {{ midnight_before('max(loaded_until)') }} as last_snapshot_at

    from loads

),

snapshots as (

    select snapshot_at

    from loaded

    cross join {{ midnights('first_snapshot_at', 'last_snapshot_at', 'snapshot_at') }}

)

select * from snapshots

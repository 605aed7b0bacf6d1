with

activity as (

    select * from {{ ref('int_activity_versions') }}

),

windows as (

    select 7 as window_days
    union all
    select 30 as window_days

),

signs as (

    select 1 as row_change
    union all
    select -1 as row_change

),

-- A snapshot at s counts what occurred in [s - window, s) and is known at s. So each version
-- enters a window at one midnight and leaves it at another: when it is older than the window,
-- or when a later version supersedes it.
memberships as (

    select
        activity.*,
        windows.window_days,
        greatest(
            {{ midnight_after('activity.occurred_at') }},
            {{ midnight_from('activity.known_from') }}
        ) as enters_at,
        {{ midnight_after(add_days('activity.occurred_at', 'windows.window_days')) }}
            as ages_out_at,
        {{ midnight_from('activity.known_until') }} as superseded_at

    from activity

    cross join windows

),

bounded as (

    select
        *,
        case when superseded_at < ages_out_at then superseded_at else ages_out_at end as leaves_at

    from memberships

),

window_changes as (

    select
        bounded.user_id,
        bounded.category_id,
        bounded.activity_type,
        bounded.window_days,
        bounded.occurred_at,
        case
            when signs.row_change = 1 then bounded.enters_at
            else bounded.leaves_at
        end as snapshot_at,
        signs.row_change,
        cast(
            signs.row_change * bounded.amount_usd as {{ dbt.type_numeric() }}
        ) as amount_change_usd

    from bounded

    cross join signs

    where bounded.enters_at < bounded.leaves_at

)

select * from window_changes

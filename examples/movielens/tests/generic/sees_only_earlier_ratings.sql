{#
    Passes when the point-in-time join gives every rating the history of what came before its
    second: neither itself, nor the others of its second, nor less than all the earlier ones.

    Asks for the newest row of the mart with event_timestamp <= the rating's time, as Feast does,
    and compares with a count and a sum that are taken from the ratings themselves.
#}
{% test sees_only_earlier_ratings(model, join_key) %}

    with

    ratings as (

        select
            user_id,
            movie_id,
            rated_at,
            count(*) over earlier as ratings_count,
            avg(rating_stars) over earlier as rating_mean

        from {{ ref('stg_movielens__ratings') }}

        window earlier as (
            partition by {{ join_key }}
            order by rated_at
            range between unbounded preceding and interval '1 microsecond' preceding
        )

    )

    select
        ratings.*,
        seen.ratings_count_all,
        seen.rating_mean_all

    from ratings

    left join lateral (

        select * from {{ model }} as history

        where history.{{ join_key }} = ratings.{{ join_key }}
            and history.event_timestamp <= ratings.rated_at

        order by history.event_timestamp desc

        limit 1

    ) as seen
        on true

    where ratings.ratings_count != coalesce(seen.ratings_count_all, 0)
        or abs(ratings.rating_mean - seen.rating_mean_all) > 1e-9

{% endtest %}

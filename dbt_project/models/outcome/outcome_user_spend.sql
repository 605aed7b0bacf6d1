with

served as (

    select
        cast({{ json_text('entity_keys', 'user_id') }} as {{ dbt.type_bigint() }}) as user_id,
        served_at as event_timestamp,
        model_name,
        model_version,
        prediction,
        probabilities,
        server_id,
        server_row,
        request_id,
        request_row

    from {{ ref('stg_serving__predictions') }}

    where
        label = 'spend_7d_usd'
        and coalesce(answered_as, 'answer') = 'answer'

),

labels as (

    {{ spend_7d_usd('served') }}

),

outcome as (

    select
        served.user_id,
        served.event_timestamp,
        served.model_name,
        served.model_version,
        served.prediction,
        served.probabilities,
        served.server_id,
        served.server_row,
        served.request_id,
        served.request_row,
        labels.spend_7d_usd

    from served

    inner join labels
        on
            served.user_id = labels.user_id
            and served.event_timestamp = labels.event_timestamp

)

select * from outcome

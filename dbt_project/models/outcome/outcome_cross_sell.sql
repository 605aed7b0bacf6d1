with

served as (

    select
        cast({{ json_text('entity_keys', 'user_id') }} as {{ dbt.type_bigint() }}) as user_id,
        cast({{ json_text('entity_keys', 'bought') }} as {{ dbt.type_bigint() }}) as bought,
        cast({{ json_text('entity_keys', 'offered') }} as {{ dbt.type_bigint() }}) as offered,
        served_at as event_timestamp,
        cast(
            {{ json_text('features', 'order_value_usd') }} as {{ dbt.type_float() }}
        ) as order_value_usd,
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
        label = 'is_cross_sell_7d'
        and coalesce(answered_as, 'answer') = 'answer'

),

labels as (

    {{ is_cross_sell_7d('served') }}

),

outcome as (

    select
        served.user_id,
        served.bought,
        served.offered,
        served.event_timestamp,
        served.order_value_usd,
        served.model_name,
        served.model_version,
        served.prediction,
        served.probabilities,
        served.server_id,
        served.server_row,
        served.request_id,
        served.request_row,
        labels.is_cross_sell_7d

    from served

    inner join labels
        on
            served.user_id = labels.user_id
            and served.offered = labels.offered
            and served.event_timestamp = labels.event_timestamp

)

select * from outcome

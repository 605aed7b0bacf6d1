with

served as (

    select
        cast({{ json_text('entity_keys', 'user_id') }} as {{ dbt.type_bigint() }}) as user_id,
        cast(
            {{ json_text('entity_keys', 'category_id') }} as {{ dbt.type_bigint() }}
        ) as category_id,
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
        label = 'is_purchase_7d'
        and coalesce(answered_as, 'answer') = 'answer'

),

labels as (

    {{ is_purchase_7d('served') }}

),

outcome as (

    select
        served.user_id,
        served.category_id,
        served.event_timestamp,
        served.model_name,
        served.model_version,
        served.prediction,
        served.probabilities,
        served.server_id,
        served.server_row,
        served.request_id,
        served.request_row,
        labels.is_purchase_7d

    from served

    inner join labels
        on
            served.user_id = labels.user_id
            and served.category_id = labels.category_id
            and served.event_timestamp = labels.event_timestamp

)

select * from outcome

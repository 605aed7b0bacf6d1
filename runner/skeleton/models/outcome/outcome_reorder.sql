with

served as (

    select
        cast(
            {{ json_text('entity_keys', 'customer_id') }} as {{ dbt.type_bigint() }}
        ) as customer_id,
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
        label = 'is_reorder_30d'
        and coalesce(answered_as, 'answer') = 'answer'

),

labels as (

    {{ is_reorder_30d('served') }}

),

outcome as (

    select
        served.customer_id,
        served.event_timestamp,
        served.model_name,
        served.model_version,
        served.prediction,
        served.probabilities,
        served.server_id,
        served.server_row,
        served.request_id,
        served.request_row,
        labels.is_reorder_30d

    from served

    inner join labels
        on
            served.customer_id = labels.customer_id
            and served.event_timestamp = labels.event_timestamp

)

select * from outcome

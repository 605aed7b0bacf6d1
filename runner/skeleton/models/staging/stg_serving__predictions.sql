with

source as (

    {{ collected('serving', 'predictions') }}

),

renamed as (

    select

        ---------- ids
        server_id,
        server_row,
        request_id,
        request_row,
        run_id,
        bundle_sha256,

        ---------- text
        model_name,
        model_version,
        label,
        prediction,
        answered_as,

        ---------- numerics
        decision_threshold,
        log_share,

        ---------- json
        entity_keys,
        features,
        statuses,
        event_times,
        definitions,
        probabilities,

        ---------- timestamps
        served_at,
        collected_at

    from source

)

select * from renamed

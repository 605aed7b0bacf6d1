with

source as (

    {{ collected('monitoring', 'figures') }}

),

renamed as (

    select

        ---------- text
        model_name,
        model_version,
        kind,
        name,

        ---------- numerics
        value,
        low,
        high,
        p_value,
        answered_rows,

        ---------- dates
        day,

        ---------- timestamps
        written_at

    from source

)

select * from renamed

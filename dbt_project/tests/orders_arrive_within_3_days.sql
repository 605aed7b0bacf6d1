-- The spines take a label as known 3 days after its window, because no order arrives later.
select
    order_id,
    min(ordered_at) as ordered_at,
    min(loaded_at) as first_loaded_at

from {{ ref('stg_shop__orders') }}

group by 1

having min(loaded_at) > {{ add_days('min(ordered_at)', 3) }}

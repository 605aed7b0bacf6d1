"""PostgreSQL's SQL for which pushed rows a feature mart has; see `MartSnapshot.pushes_seen`."""

from __future__ import annotations

from datetime import datetime

from contract.event_format import COLLECTED_AT, RECEIVED_AT
from runner.project.manifest import FeatureMart
from runner.sql import quote, quote_table, text_postgres


def order_sql(raw: str) -> str:
    """Return the SQL for the column that orders the rows: column `name`; no row: no table.

    A table that `runner collect` did not create may lack `collected_at`.
    """
    table = f"to_regclass({text_postgres(raw)})"
    column = text_postgres(COLLECTED_AT)
    return (
        f"select coalesce((select attname::text from pg_attribute where attrelid = {table} "
        f"and attname = {column}), {text_postgres(RECEIVED_AT)}) as name where {table} is not null"
    )


def pushes_seen_sql(mart: FeatureMart, raw: str, order: str, since: datetime | None) -> str:
    """Return the SQL for the last row of `raw` that the mart has, and whether others follow it.

    From the newest back, by the index on `collected_at`: as a rule the first row is in the mart.
    """
    assert mart.created_timestamp_column is not None  # noqa: S101 - `pushes` demands one
    place = f"pushed.{quote(order)}"
    after = f"{place} > '{since.isoformat()}'::timestamptz" if since else "true"
    pairs = [(key, key) for key in mart.join_keys]
    pairs += [(mart.timestamp_field, mart.timestamp_field)]
    pairs += [(mart.created_timestamp_column, RECEIVED_AT)]
    match = " and ".join(
        f"source.{quote(name)}{_cast(mart, name)} = pushed.{quote(pushed)}"
        for name, pushed in pairs
    )
    return (
        f"select seen.place, seen.received_at,\n"
        f"    seen.place is not distinct from newest.place as is_last\n"
        f"from (select max({place}) as place from {raw} as pushed where {after}) as newest\n"
        f"left join lateral (\n"
        f"    select {place} as place, pushed.{quote(RECEIVED_AT)} as received_at\n"
        f"    from {raw} as pushed\n"
        f"    where {after} and exists (\n"
        f"        select from {quote_table(mart.schema, mart.alias)} as source where {match}\n"
        f"    )\n"
        f"    order by {place} desc, pushed.{quote(RECEIVED_AT)} desc\n"
        f"    limit 1\n"
        f") as seen on true"
    )


def _cast(mart: FeatureMart, name: str) -> str:
    # An enum, a uuid and so on are declared as text.
    return "::text" if mart.columns[name].dtype == "string" else ""

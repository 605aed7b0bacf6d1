"""BigQuery's SQL for which pushed rows a feature mart has; see `MartSnapshot.pushes_seen`."""

from __future__ import annotations

from datetime import datetime

from contract.event_format import RECEIVED_AT
from runner.sql import quote_bigquery as quote
from runner.warehouse.bigquery.newest_rows import BigQueryTable
from runner.warehouse.bigquery.types import literal


def pushes_seen_sql(
    source: BigQueryTable, raw: tuple[str, str, str], order: str, since: datetime | None
) -> str:
    """Return the SQL for the last row of `raw` that the mart has, and whether others follow it.

    Parameters
    ----------
    order
        The column that orders the rows.
    """
    mart = source.mart
    assert mart.created_timestamp_column is not None  # noqa: S101 - `pushes` demands one
    past = f" for system_time as of {literal(source.snapshot)}" if source.snapshot else ""
    created = quote(mart.created_timestamp_column)
    match = [f"source.{quote(key)} = pushed.{quote(key)}" for key in mart.join_keys]
    match.append(f"source.{quote(mart.timestamp_field)} = pushed.{quote(mart.timestamp_field)}")
    match.append(f"source.{created} = pushed.{quote(RECEIVED_AT)}")
    place, received = f"pushed.{quote(order)}", f"pushed.{quote(RECEIVED_AT)}"
    after = f"{place} > {literal(since)}" if since else "true"
    return (
        f"select place, received_at, coalesce(place = newest, newest is null) as is_last\n"
        f"from (\n"
        f"    select\n"
        f"        max({place}) as newest,\n"
        f"        max(if(source.{created} is null, null, {place})) as place,\n"
        f"        max(if(source.{created} is null, null, {received})) as received_at\n"
        f"    from {quote(*raw)} as pushed{past}\n"
        f"    left join {source.relation}\n"
        f"    on {' and '.join(match)}\n"
        f"    where {after}\n"
        f")"
    )

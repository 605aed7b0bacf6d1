"""Marks that change soon after a table has changed, from its metadata, which costs nothing."""

from __future__ import annotations

from collections.abc import Collection

from google.api_core.exceptions import NotFound

from runner.settings import Settings
from runner.warehouse.bigquery.client import open_client


def bigquery_marks(settings: Settings, tables: Collection[str]) -> dict[str, str]:
    """Return table → its mark, without those of which nothing is known, such as views.

    Rows that are streamed are counted while they wait in the streaming buffer.
    """
    found: dict[str, str] = {}
    with open_client(settings) as client:
        for name in tables:
            try:
                table = client.get_table(name.replace("`", ""))
            except NotFound:
                continue
            if table.table_type == "TABLE" and table.modified is not None:
                buffer = table.streaming_buffer
                parts = (table.modified.isoformat(), table.num_rows, table.num_bytes)
                found[name] = repr((*parts, buffer and buffer.estimated_rows))
    return found

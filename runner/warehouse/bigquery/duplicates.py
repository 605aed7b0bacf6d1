"""Duplicate rows of a feature mart in BigQuery. The twin of `postgres.duplicates`.

Nothing in BigQuery keeps rows unique, and each look is billed for the columns of keys and times. So
a table that had no duplicates is looked at again only once it was written.
"""

from __future__ import annotations

from dataclasses import replace

from feast.repo_config import load_repo_config

from runner.bytes_billed import Billed
from runner.project import freshness
from runner.project.manifest import FeatureMart
from runner.settings import Settings
from runner.warehouse.bigquery.session import BigQuerySession
from runner.warehouse.duplicate_rows import (
    DuplicateRows,
    duplicates_in,
    duplicates_sql,
    identifying,
)

_KEPT = "unique_rows"


def bigquery_duplicates(settings: Settings, mart: FeatureMart) -> DuplicateRows:
    """See `open_mart.find_duplicates`."""
    settings.export()
    config = load_repo_config(settings.feature_repo, settings.feature_store_yaml)
    session = BigQuerySession(config.offline_store)
    table = session.table((mart.database, mart.schema, mart.alias))
    if table is None:
        return DuplicateRows()
    is_table = table.table_type == "TABLE"
    state = [identifying(mart), table.modified.isoformat()] if is_table else []
    clean = freshness.kept(settings, _KEPT)
    if state and clean.get(mart.path) == state:
        return DuplicateRows()
    answer = session.read(duplicates_sql(mart), f"look at {mart.name}", purpose="duplicates")
    found = duplicates_in(mart, [list(row.values()) for row in answer.to_pylist()])
    if state and not found.rows:
        freshness.keep(settings, _KEPT, {**clean, mart.path: state})
    bill = answer.schema.metadata or {}
    return replace(found, billed=Billed(int(bill[b"bytes_processed"]), int(bill[b"bytes_billed"])))

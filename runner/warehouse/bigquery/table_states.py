"""What tables hold, as digests that differ once anything in a table has changed.

A table's metadata says when it last changed. Streamed rows show there late, so the rows are counted
too, which reads none of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from google.cloud import bigquery

from runner.errors import RunnerError
from runner.settings import Settings
from runner.warehouse.bigquery.client import open_client
from runner.warehouse.table_state import UnknownStateError, state_digest

_LONGEST = 20.0
# What is called by a path is a function or model of a dataset, unless it is BigQuery's own.
_CALL_BY_PATH = re.compile(
    r"`\s*\( | (?<![\w`-]) (?!(safe|net|hll_count)\s*\.) (`[^`]+`|[\w-]+) \s*\.\s* \w+ \s*\(",
    re.VERBOSE | re.IGNORECASE,
)


def bigquery_states(
    settings: Settings, tables: Collection[str], views: Collection[str], queries: str
) -> dict[str, str]:
    """Return the state of each table and view.

    Raises
    ------
    UnknownStateError
        If one is not there, or is no table of BigQuery's own; if `queries` may call a function of
        a dataset.
    """
    if called := _CALL_BY_PATH.search(queries):
        raise UnknownStateError(f"a function of a dataset may be called: {called[0]}")
    try:
        with open_client(settings) as client:
            states = {name: _view_state(client, name) for name in views}
            facts = {name: _table_facts(client, name) for name in tables}
            counts = _counts(client, list(tables)) if tables else {}
    except (RunnerError, TimeoutError) as err:
        raise UnknownStateError(str(err)) from err
    return states | {name: state_digest((*facts[name], counts[name])) for name in tables}


def _table_facts(client: bigquery.Client, name: str) -> tuple[object, ...]:
    table = client.get_table(name.replace("`", ""))
    if table.table_type != "TABLE" or table.modified is None:
        raise UnknownStateError(f"{name} is not a table, or BigQuery does not say when it changed")
    return (
        table.created,
        table.modified,
        table.num_bytes,
        [field.to_api_repr() for field in table.schema],
    )


def _view_state(client: bigquery.Client, name: str) -> str:
    table = client.get_table(name.replace("`", ""))
    if table.table_type != "VIEW" or not table.view_query:
        raise UnknownStateError(f"{name} is not a view")
    return state_digest(table.view_query)


def _counts(client: bigquery.Client, tables: Sequence[str]) -> dict[str, int]:
    selects = (f"select {n} as n, count(*) as found from {name}" for n, name in enumerate(tables))
    options = bigquery.QueryJobConfig(labels={"runner": "train"})
    job = client.query(" union all ".join(selects), job_config=options)
    return {tables[row["n"]]: row["found"] for row in job.result(timeout=_LONGEST)}

"""What BigQuery itself says that a query would be billed for, at no cost."""

from __future__ import annotations

import re

import pytest
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import bigquery


def demanded_limit(client: bigquery.Client, sql: str) -> int:
    """Return the least `maximum_bytes_billed` for `sql`: it is asked with 1, and so refused."""
    options = bigquery.QueryJobConfig(maximum_bytes_billed=1, use_query_cache=False)
    with pytest.raises(GoogleAPICallError) as refused:
        client.query(sql, job_config=options, job_retry=None).result()
    found = re.search(r"(\d+) or higher required", str(refused.value))
    assert found, refused.value
    return int(found[1])

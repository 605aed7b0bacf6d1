"""Make sure that a dataset is there."""

from __future__ import annotations

from contextlib import suppress

from google.api_core.exceptions import NotFound
from google.cloud import bigquery


def ensure_dataset(client: bigquery.Client, dataset: bigquery.Dataset | str) -> None:
    """Create the dataset unless it exists: to look needs fewer permissions than to create."""
    reference = dataset if isinstance(dataset, str) else dataset.reference
    with suppress(NotFound):
        client.get_dataset(reference)
        return
    client.create_dataset(dataset, exists_ok=True)

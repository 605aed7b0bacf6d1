"""The point-in-time join in BigQuery against the oracle, on the rows PostgreSQL is tested with.

Set RUNNER_CLOUD_EXAMPLES for a longer run (default 10, of a dozen worlds each).
"""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from feast import FeatureStore
from google.cloud import bigquery
from hypothesis import example, given

from tests import oracle
from tests.cloud.bigquery_stores import feast_store, fill, source
from tests.worlds import (
    COLUMNS,
    KEYS,
    OTHER,
    SPINE_COLUMNS,
    TTL,
    Case,
    FrameTypes,
    World,
    assert_joined_as_the_oracle_does,
    edges,
    feast_objects,
    frame_types,
    in_examples,
    merged,
    worlds_of_rows,
)

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

EXAMPLES = int(os.environ.get("RUNNER_CLOUD_EXAMPLES", "10"))
SPINE = {
    "order": "INT64",
    "world": "INT64",
    "name": "STRING",
    "other": "STRING",
    "event_timestamp": "TIMESTAMP",
    "label": "STRING",
}


def _cases(dataset: str) -> list[Case]:
    table = f"{dataset}.instants"
    query = f"select * from {table} where world is not null"
    return [
        Case("plain", table, KEYS, None, has_created=False),
        Case("known", table, KEYS, None, has_created=True),
        Case("known_ttl", table, KEYS, TTL, has_created=True),
        Case("short", table, KEYS, timedelta(microseconds=1), has_created=False),
        Case("queried", query, KEYS, TTL, has_created=True),
        Case("naive", f"{dataset}.naive", KEYS, TTL, has_created=True),
        Case("keyless", table, {}, TTL, has_created=True),
        Case("other", table, OTHER, TTL, has_created=True),
    ]


def _types(time: str) -> dict[str, str]:
    types = {"world": "INT64", "Select": "STRING", "event_timestamp": time, "created_at": time}
    return {**types, "number": "INT64", "text": "STRING", "real": "FLOAT64"}


@pytest.fixture(scope="module")
def store(
    client: bigquery.Client, dataset: str, tmp_path_factory: pytest.TempPathFactory
) -> FeatureStore:
    folder = tmp_path_factory.mktemp("feast")
    return feast_store(dataset, folder, feast_objects(_cases(dataset), source))


def _fill(
    client: bigquery.Client, dataset: str, features: list[oracle.Row], spine: list[oracle.Row]
) -> None:
    rows = [tuple(row[column] for column in COLUMNS) for row in features]
    fill(client, f"{dataset}.instants", _types("TIMESTAMP"), rows)
    fill(client, f"{dataset}.naive", _types("DATETIME"), rows)
    given_rows = [(n, *(row[c] for c in SPINE_COLUMNS)) for n, row in enumerate(spine)]
    fill(client, f"{dataset}.spine", SPINE, given_rows)


@in_examples(EXAMPLES)
@example(worlds=edges(), types={})
@given(worlds=worlds_of_rows, types=frame_types)
def test_every_row_sees_exactly_what_the_oracle_sees(
    worlds: list[World],
    types: FrameTypes,
    client: bigquery.Client,
    dataset: str,
    store: FeatureStore,
) -> None:
    rows = merged(worlds)
    _fill(client, dataset, *rows)
    query = f"select {', '.join(SPINE_COLUMNS)} from {dataset}.spine order by `order` ; "
    assert_joined_as_the_oracle_does(store, _cases(dataset), rows, query, types)

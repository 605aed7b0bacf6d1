"""The point-in-time join in BigQuery against the oracle, on the rows PostgreSQL is tested with.

Set RUNNER_CLOUD_EXAMPLES for a longer run (default 10, of a dozen worlds each).
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest
from feast import Entity, FeatureStore, FeatureView, Field
from feast.types import Float64, Int64, String
from feast.value_type import ValueType
from google.cloud import bigquery
from hypothesis import HealthCheck, example, given, settings

from tests import oracle
from tests.cloud.bigquery_stores import feast_store, fill, source
from tests.worlds import TTL, World, assert_same, edges, worlds_of_rows

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

EXAMPLES = int(os.environ.get("RUNNER_CLOUD_EXAMPLES", "10"))
FEATURES = ["number", "text", "real"]
SPINE = {
    "order": "INT64",
    "world": "INT64",
    "name": "STRING",
    "other": "STRING",
    "event_timestamp": "TIMESTAMP",
    "label": "STRING",
}
SPINE_COLUMNS = ["world", "name", "other", "event_timestamp", "label"]
_KEYS = {"world": "world", "name": "name"}
_OTHER = {"world": "world", "other": "name"}

# name in the retrieval, table or query, keys, ttl, created timestamp?
CASES: list[tuple[str, str, dict[str, str], timedelta | None, bool]] = [
    ("plain", "{dataset}.instants", _KEYS, None, False),
    ("known", "{dataset}.instants", _KEYS, None, True),
    ("known_ttl", "{dataset}.instants", _KEYS, TTL, True),
    ("short", "{dataset}.instants", _KEYS, timedelta(microseconds=1), False),
    ("queried", "select * from {dataset}.instants where world is not null", _KEYS, TTL, True),
    ("naive", "{dataset}.naive", _KEYS, TTL, True),
    ("keyless", "{dataset}.instants", {}, TTL, True),
    ("other", "{dataset}.instants", _OTHER, TTL, True),
]


def _types(time: str) -> dict[str, str]:
    types = {"world": "INT64", "Select": "STRING", "event_timestamp": time, "created_at": time}
    return {**types, "number": "INT64", "text": "STRING", "real": "FLOAT64"}


@pytest.fixture(scope="module")
def store(
    client: bigquery.Client, dataset: str, tmp_path_factory: pytest.TempPathFactory
) -> FeatureStore:
    entities = {
        "world": Entity(name="world", join_keys=["world"], value_type=ValueType.INT64),
        "name": Entity(name="name", join_keys=["name"], value_type=ValueType.STRING),
        "other": Entity(name="other", join_keys=["other"], value_type=ValueType.STRING),
    }
    views = [_view(case, entities, dataset) for case in CASES]
    return feast_store(dataset, tmp_path_factory.mktemp("feast"), [*entities.values(), *views])


def _view(case: Any, entities: dict[str, Entity], dataset: str) -> FeatureView:
    name, relation, keys, ttl, has_created = case
    text_key = next((key for key in keys if key != "world"), None)
    return FeatureView(
        name=name,
        entities=[entities[key] for key in keys],
        ttl=ttl or timedelta(0),
        schema=[
            *(Field(name=key, dtype=Int64 if key == "world" else String) for key in keys),
            Field(name="number", dtype=Int64),
            Field(name="text", dtype=String),
            Field(name="real", dtype=Float64),
        ],
        source=source(
            name,
            relation.format(dataset=dataset),
            created="created_at" if has_created else "",
            field_mapping={"Select": text_key} if text_key else {},
        ),
    )


def _expected(features: list[oracle.Row], spine: list[oracle.Row]) -> list[oracle.Row]:
    views = [
        (oracle.View(name, keys, FEATURES, ttl, "created_at" if has_created else None), features)
        for name, _, keys, ttl, has_created in CASES
    ]
    return oracle.join(spine, views)


def _fill(
    client: bigquery.Client, dataset: str, features: list[oracle.Row], spine: list[oracle.Row]
) -> None:
    columns = ["world", "name", "event_timestamp", "created_at", *FEATURES]
    rows = [tuple(row[column] for column in columns) for row in features]
    fill(client, f"{dataset}.instants", _types("TIMESTAMP"), rows)
    fill(client, f"{dataset}.naive", _types("DATETIME"), rows)
    given_rows = [(n, *(row[c] for c in SPINE_COLUMNS)) for n, row in enumerate(spine)]
    fill(client, f"{dataset}.spine", SPINE, given_rows)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@example(worlds=edges())
@given(worlds=worlds_of_rows)
def test_every_row_sees_exactly_what_the_oracle_sees(
    worlds: list[World], client: bigquery.Client, dataset: str, store: FeatureStore
) -> None:
    features = [{"world": n, **row} for n, (rows, _) in enumerate(worlds) for row in rows]
    spine = [{"world": n, **row} for n, (_, rows) in enumerate(worlds) for row in rows]
    _fill(client, dataset, features, spine)
    refs = [f"{name}:{feature}" for name, *_ in CASES for feature in FEATURES]
    expected = _expected(features, spine)

    by_query = store.get_historical_features(
        entity_df=f"select {', '.join(SPINE_COLUMNS)} from {dataset}.spine order by `order` ; ",
        features=refs,
        full_feature_names=True,
    ).to_arrow()
    assert_same(by_query.to_pylist(), expected)

    frame = pd.DataFrame(spine, columns=SPINE_COLUMNS)
    frame["event_timestamp"] = pd.to_datetime(frame["event_timestamp"], utc=True)
    by_frame = store.get_historical_features(
        entity_df=frame, features=refs, full_feature_names=True
    ).to_arrow()
    assert_same(by_frame.to_pylist(), expected)

"""What the BigQuery store guarantees, one rule a test."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from feast import Entity, FeatureView, Field
from feast.infra.offline_stores.bigquery_source import SavedDatasetBigQueryStorage
from feast.types import Float64, Int64, String
from feast.value_type import ValueType
from google.cloud import bigquery
from google.cloud.bigquery import client as client_module
from google.cloud.bigquery_storage_v1 import BigQueryReadClient

from runner.errors import RunnerError
from runner.warehouse.bigquery.offline_store import PointInTimeBigQueryOfflineStoreConfig
from runner.warehouse.bigquery.session import BigQuerySession
from tests.cloud.bigquery_stores import feast_store, fill, source

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

NOON = datetime(2024, 6, 1, 12, tzinfo=UTC)
BIG = 2**53 + 1
UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")
TYPES = {
    "a": "INT64",
    "b": "INT64",
    "event_timestamp": "TIMESTAMP",
    "created_at": "TIMESTAMP",
    "number": "INT64",
    "real": "FLOAT64",
    "text": "STRING",
}
Retrieve = Callable[..., Any]
Feature = tuple[Any, ...]


def feature(a: Any, b: Any, happened: datetime, known: datetime, *values: Any) -> Feature:
    """Return a row of the feature table; values: number, real, text."""
    return (a, b, happened, known, *values, *[None] * (3 - len(values)))


def spine_sql(*rows: tuple[Any, Any, datetime | None]) -> str:
    """Return SQL that selects these rows, in this order."""
    selects = []
    for number, (a, b, at) in enumerate(rows):
        time = f"timestamp '{at.isoformat()}'" if at else "cast(null as timestamp)"
        a, b = (f"cast({'null' if key is None else key} as int64)" for key in (a, b))
        selects.append(f"select {number} as n, {a} as a, {b} as b, {time} as event_timestamp")
    return f"select a, b, event_timestamp from ({' union all '.join(selects)}) order by n"


@pytest.fixture
def retrieve(client: bigquery.Client, dataset: str, tmp_path: Path) -> Retrieve:
    """Fill the feature table and return the retrieval job for a spine."""

    def start(rows: list[Feature], spine: Any, ttl: Any = timedelta(0), **options: Any) -> Any:
        fill(client, f"{dataset}.readings", TYPES, rows)
        entities = [Entity(name=k, join_keys=[k], value_type=ValueType.INT64) for k in "ab"]
        fields = {"a": Int64, "b": Int64, "number": Int64, "real": Float64, "text": String}
        view = FeatureView(
            name="readings",
            entities=entities,
            ttl=ttl,
            schema=[Field(name=name, dtype=dtype) for name, dtype in fields.items()],
            source=source("readings", f"{dataset}.readings"),
        )
        store = feast_store(dataset, tmp_path, [*entities, view], **options)
        names = ["number", "real", "text"]
        return store.get_historical_features(spine, [f"readings:{name}" for name in names])

    return start


def numbers(job: Any) -> list[int | None]:
    """Return the feature `number` of every row."""
    return list(job.to_arrow().column("number").to_pylist())


def test_composite_keys_are_compared_one_by_one(retrieve: Retrieve) -> None:
    rows = [feature(1, 23, NOON, NOON, 1), feature(12, 3, NOON, NOON, 2)]
    spine = spine_sql((12, 3, NOON), (1, 23, NOON), (1, 3, NOON))
    assert numbers(retrieve(rows, spine)) == [2, 1, None]


def test_a_null_key_matches_nothing(retrieve: Retrieve) -> None:
    rows = [feature(None, 1, NOON, NOON, 1), feature(None, None, NOON, NOON, 2)]
    job = retrieve(rows, spine_sql((None, 1, NOON), (None, None, NOON)))
    assert numbers(job) == [None, None]


def test_of_equally_new_rows_the_greater_values_win(retrieve: Retrieve) -> None:
    ties = [
        feature(1, 1, NOON, NOON, 5, None, "z"),
        feature(1, 1, NOON, NOON, 5, math.nan, "a"),
        feature(1, 1, NOON, NOON, 5, math.inf, "z"),
        feature(1, 1, NOON, NOON, None, math.nan, "z"),
    ]
    for rows in (ties, ties[::-1]):
        found = retrieve(rows, spine_sql((1, 1, NOON))).to_arrow().to_pylist()
        assert len(found) == 1
        assert found[0]["text"] == "a"
        assert math.isnan(found[0]["real"])


def test_a_later_created_row_wins_a_tie_in_time(retrieve: Retrieve) -> None:
    later = NOON + timedelta(minutes=1)
    rows = [feature(1, 1, NOON, later, 1), feature(1, 1, NOON, NOON, 9)]
    assert numbers(retrieve(rows, spine_sql((1, 1, later)))) == [1]


def test_a_row_not_yet_known_is_invisible_unless_switched_off(retrieve: Retrieve) -> None:
    microsecond = timedelta(microseconds=1)
    rows = [feature(1, 1, NOON, NOON + microsecond, 1)]
    spine = spine_sql((1, 1, NOON), (1, 1, NOON + microsecond))
    assert numbers(retrieve(rows, spine)) == [None, 1]
    assert numbers(retrieve(rows, spine, knowledge_time=False)) == [1, 1]


def test_exactly_at_the_ttl_is_in(retrieve: Retrieve) -> None:
    ttl = timedelta(days=7)
    rows = [feature(1, 1, NOON, NOON, 1)]
    spine = spine_sql((1, 1, NOON + ttl), (1, 1, NOON + ttl + timedelta(microseconds=1)))
    assert numbers(retrieve(rows, spine, ttl)) == [1, None]


def test_rows_come_back_in_order_with_duplicates_and_without_a_time(retrieve: Retrieve) -> None:
    rows = [feature(key, key, NOON, NOON, key) for key in range(5)]
    keys = [3, 1, 1, 4, 0, 3]
    job = retrieve(rows, spine_sql(*((key, key, NOON) for key in keys), (1, 1, None)))
    assert numbers(job) == [*keys, None]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("number desc", [2, 1, 0]),
        ("1 desc", [2, 1, 0]),
        ("mod(t.extra, 3), t.b", [2, 0, 1]),
    ],
)
def test_a_spines_order_may_be_a_column_a_position_or_an_expression(
    retrieve: Retrieve, client: bigquery.Client, dataset: str, order: str, expected: list[int]
) -> None:
    fill(
        client,
        f"{dataset}.visits",
        {"a": "INT64", "b": "INT64", "extra": "INT64", "event_timestamp": "TIMESTAMP"},
        [(0, 0, 4, NOON), (1, 1, 5, NOON), (2, 2, 3, NOON)],
    )
    rows = [feature(key, key, NOON, NOON, key) for key in range(3)]
    order = order.replace("number", "a")
    spine = f"select t.a, t.b, t.event_timestamp from {dataset}.visits as t order by {order}"
    table = retrieve(rows, spine).to_arrow()
    assert table.column("number").to_pylist() == expected
    assert table.column_names == ["a", "b", "event_timestamp", "number", "real", "text"]


def test_large_integers_stay_exact_beside_nulls(retrieve: Retrieve) -> None:
    job = retrieve([feature(1, 1, NOON, NOON, BIG)], spine_sql((1, 1, NOON), (2, 2, NOON)))
    assert numbers(job) == [BIG, None]
    frame = job.to_df()
    assert frame["number"].dtype == pd.Int64Dtype()
    assert frame["number"].tolist() == [BIG, pd.NA]


def test_an_empty_spine_gives_an_empty_answer_with_the_same_types(retrieve: Retrieve) -> None:
    rows = [feature(1, 1, NOON, NOON, 1)]
    spine = spine_sql((1, 1, NOON))
    full = retrieve(rows, spine).to_arrow()
    empty = retrieve(rows, f"select * from ({spine}) where a < 0").to_arrow()
    assert empty.num_rows == 0
    assert empty.schema == full.schema
    assert full.schema.field("event_timestamp").type == UTC_MICROSECONDS
    frame = pd.DataFrame(
        {
            "a": pd.array([], "int64"),
            "b": pd.array([], "int64"),
            "event_timestamp": pd.array([], "datetime64[us, UTC]"),
        }
    )
    by_frame = retrieve(rows, frame).to_arrow()
    assert by_frame.schema.types[3:] == full.schema.types[3:]


def test_a_frame_keeps_what_the_join_does_not_need(retrieve: Retrieve) -> None:
    frame = pd.DataFrame(
        {
            "note": [{"any": "thing"}, None],
            "a": pd.array([None, 1], "Int64"),
            "b": [1.0, 1.0],
            "event_timestamp": [NOON, NOON],
        }
    )
    found = retrieve([feature(1, 1, NOON, NOON, 1)], frame).to_arrow()
    assert found.column("note").to_pylist() == [{"any": "thing"}, None]
    assert found.column("number").to_pylist() == [None, 1]


def test_a_frame_may_have_a_key_of_nothing_but_nulls(retrieve: Retrieve) -> None:
    frame = pd.DataFrame({"a": [None], "b": [1], "event_timestamp": [NOON]})
    assert numbers(retrieve([feature(1, 1, NOON, NOON, 1)], frame)) == [None]


def test_a_key_of_a_type_that_is_none_is_refused(retrieve: Retrieve) -> None:
    frame = pd.DataFrame({"a": ["x"], "b": [1], "event_timestamp": [NOON]})
    with pytest.raises(RunnerError, match=r"join key a is .* but .* in feature view"):
        retrieve([], frame)


def test_nothing_is_left_of_an_uploaded_frame(
    retrieve: Retrieve, client: bigquery.Client, dataset: str
) -> None:
    frame = pd.DataFrame({"a": [1], "b": [1], "event_timestamp": [NOON]})
    retrieve([feature(1, 1, NOON, NOON, 1)], frame).to_arrow()
    assert not [t for t in client.list_tables(dataset) if t.table_id.startswith("entity_rows")]


def test_an_upload_is_never_in_memory_as_a_whole(
    client: bigquery.Client, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_DEFAULT_CHUNKSIZE", 2**20)  # 100 of them otherwise
    session = BigQuerySession(PointInTimeBigQueryOfflineStoreConfig(dataset=dataset))
    name = session.upload_name()
    keys = np.random.default_rng(7).integers(2**62, size=2**21)  # 16 MiB that do not compress
    rows = pa.table({"a": keys})
    tracemalloc.start()
    try:
        with session.uploaded(rows, name):
            peak = tracemalloc.get_traced_memory()[1]
            assert client.get_table(".".join(name)).num_rows == len(keys)
    finally:
        tracemalloc.stop()
    assert peak < 8 * 2**20


def test_the_uploaded_table_expires_if_nobody_deletes_it(
    retrieve: Retrieve, monkeypatch: pytest.MonkeyPatch
) -> None:
    created: list[bigquery.Table] = []
    original = bigquery.Client.create_table

    def create_table(self: bigquery.Client, table: bigquery.Table) -> bigquery.Table:
        created.append(table)
        return original(self, table)

    monkeypatch.setattr(bigquery.Client, "create_table", create_table)
    frame = pd.DataFrame({"a": [1], "b": [1], "event_timestamp": [NOON]})
    retrieve([], frame).to_arrow()
    expires = [table.expires - datetime.now(tz=UTC) for table in created]
    assert [timedelta(minutes=59) < left <= timedelta(hours=1) for left in expires] == [True]


def test_jobs_are_labelled_and_limited(
    retrieve: Retrieve, client: bigquery.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bigquery.QueryJobConfig] = []
    original = bigquery.Client.query

    def query(self: bigquery.Client, text: str, *, job_config: bigquery.QueryJobConfig) -> Any:
        sent.append(job_config)
        return original(self, text, job_config=job_config)

    # The emulator keeps no limit, so we look at what it is sent.
    monkeypatch.setattr(bigquery.Client, "query", query)
    started = datetime.now(tz=UTC)
    frame = pd.DataFrame({"a": [1], "b": [1], "event_timestamp": [NOON]})
    retrieve([], frame, maximum_bytes_billed=10**9).to_arrow()
    assert {options.labels["runner"] for options in sent} == {"describe", "read"}
    limits = {(options.dry_run, options.maximum_bytes_billed) for options in sent}
    assert limits == {(True, None), (False, 10**9)}  # a dry run is not billed
    loads = [job.labels for job in client.list_jobs(min_creation_time=started)]
    assert {"runner": "upload"} in loads


def test_results_come_through_the_storage_api(
    retrieve: Retrieve, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions: list[str] = []
    original = BigQueryReadClient.create_read_session

    def create(self: Any, *args: Any, **options: Any) -> Any:
        session = original(self, *args, **options)
        sessions.append(session.name)
        return session

    monkeypatch.setattr(BigQueryReadClient, "create_read_session", create)
    rows = [feature(1, 1, NOON, NOON, BIG, 0.5, "text")]
    found = retrieve(rows, spine_sql((1, 1, NOON), (2, 2, NOON))).to_arrow().to_pylist()
    assert len(sessions) == 1
    assert [row["number"] for row in found] == [BIG, None]
    assert found[0]["event_timestamp"] == NOON


def test_the_metadata_names_the_range_of_time(retrieve: Retrieve) -> None:
    spine = spine_sql((1, 1, NOON), (2, 2, NOON - timedelta(days=1)))
    metadata = retrieve([], spine).metadata
    assert metadata.min_event_timestamp == NOON - timedelta(days=1)
    assert metadata.max_event_timestamp == NOON
    assert metadata.keys == ["a", "b"]


def test_the_answer_can_be_kept_as_a_table(
    retrieve: Retrieve, client: bigquery.Client, dataset: str
) -> None:
    job = retrieve([feature(1, 1, NOON, NOON, 7)], spine_sql((1, 1, NOON)))
    storage = SavedDatasetBigQueryStorage(table=f"test-project.{dataset}.kept")
    job.persist(storage, allow_overwrite=True)
    rows = client.query(f"select number from {dataset}.kept").result()
    assert [row["number"] for row in rows] == [7]


_ONE = "select 1 as a, 1 as b, timestamp '2024-01-01' as event_timestamp"


@pytest.mark.parametrize(
    ("spine", "message"),
    [
        ("select a, event_timestamp from nowhere.t", "the spine's SQL"),
        ("select 1 as a, timestamp '2024-01-01' as event_timestamp", "no column b"),
        ("select 1 as a, 1 as b", "no timestamp column"),
        ("select 'x' as a, 1 as b, timestamp '2024-01-01' as event_timestamp", "join key a is"),
        (
            f"select distinct a, b, event_timestamp from ({_ONE}) order by a + b",
            "select the expression as a column",
        ),
    ],
)
def test_a_wrong_spine_is_refused_with_a_reason(
    retrieve: Retrieve, spine: str, message: str
) -> None:
    with pytest.raises(RunnerError) as caught:
        retrieve([], spine)
    assert message in f"{caught.value} {caught.value.hint}"

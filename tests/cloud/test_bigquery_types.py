"""Values come out of BigQuery as docs/cloud.md says, and the pulls find the newest rows."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from feast import Entity, FeatureStore, FeatureView, Field
from feast.types import Bool, Bytes, Float64, Int64, String, UnixTimestamp
from feast.value_type import ValueType
from google.cloud import bigquery

from runner.errors import RunnerError
from runner.warehouse.bigquery.offline_store import PointInTimeBigQueryOfflineStore
from tests.cloud.bigquery_stores import feast_store, source

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)

# column, SQL type, Feast type, Arrow type, SQL value, Python value
TYPES: list[tuple[str, str, Any, pa.DataType, str, Any]] = [
    ("whole", "int64", Int64, pa.int64(), str(2**53 + 1), 2**53 + 1),
    ("real", "float64", Float64, pa.float64(), "0.1", 0.1),
    ("count_as_float", "int64", Float64, pa.float64(), "4", 4.0),
    ("exact", "numeric", Float64, pa.float64(), "numeric '1.125'", 1.125),
    ("flag", "bool", Bool, pa.bool_(), "true", True),
    ("word", "string", String, pa.string(), "'Ünï \"q\"'", 'Ünï "q"'),
    ("raw", "bytes", Bytes, pa.binary(), "b'ab'", b"ab"),
    ("past", "timestamp", UnixTimestamp, UTC_MICROSECONDS,
     "timestamp '1912-06-23 00:00:00.000001+00'", datetime(1912, 6, 23, 0, 0, 0, 1, tzinfo=UTC)),
    ("zoneless", "datetime", UnixTimestamp, UTC_MICROSECONDS,
     "datetime '2024-03-10 02:30:00'", datetime(2024, 3, 10, 2, 30, tzinfo=UTC)),
    ("day", "date", UnixTimestamp, UTC_MICROSECONDS,
     "date '1969-12-31'", datetime(1969, 12, 31, tzinfo=UTC)),
    ("day_text", "date", String, pa.date32(), "date '1969-12-31'", date(1969, 12, 31)),
    ("clock", "time", String, pa.time64("us"), "time '12:30:00'", time(12, 30)),
    ("document", "json", String, pa.string(), "json '{\"a\":1}'", '{"a":1}'),
]  # fmt: skip
NAMES = [name for name, *_ in TYPES]


@pytest.fixture(scope="module")
def entity() -> Entity:
    return Entity(name="id", join_keys=["id"], value_type=ValueType.INT64)


@pytest.fixture(scope="module")
def store(
    client: bigquery.Client, dataset: str, entity: Entity, tmp_path_factory: Any
) -> FeatureStore:
    columns = ", ".join(f"{name} {sql_type}" for name, sql_type, *_ in TYPES)
    create = f"create table {dataset}.filled (id int64, event_timestamp timestamp, {columns})"
    client.query(create).result()
    insert = f"insert into {dataset}.filled values (%s, timestamp '{NOON.isoformat()}', %s)"
    client.query(insert % (1, ", ".join(value for *_, value, _ in TYPES))).result()
    client.query(insert % (2, ", ".join("null" for _ in TYPES))).result()
    view = FeatureView(
        name="filled",
        entities=[entity],
        schema=[Field(name="id", dtype=Int64)]
        + [Field(name=name, dtype=dtype) for name, _, dtype, *_ in TYPES],
        source=source("filled", f"{dataset}.filled", created=""),
    )
    return feast_store(dataset, tmp_path_factory.mktemp("feast"), [entity, view])


SPINE = "select id, timestamp '2024-06-01' as event_timestamp from {dataset}.filled order by id"


@pytest.fixture(scope="module")
def table(store: FeatureStore, dataset: str) -> pa.Table:
    features = [f"filled:{name}" for name in NAMES]
    return store.get_historical_features(SPINE.format(dataset=dataset), features).to_arrow()


@pytest.mark.parametrize(("name", "arrow_type", "value"), [(t[0], t[3], t[5]) for t in TYPES])
def test_a_value_survives(table: pa.Table, name: str, arrow_type: pa.DataType, value: Any) -> None:
    column = table.column(name)
    assert column.type == arrow_type
    assert column.to_pylist() == [value, None]


def test_a_numeric_column_declared_an_integer_is_refused(
    store: FeatureStore, dataset: str, entity: Entity, tmp_path: Path
) -> None:
    view = FeatureView(
        name="rounded",
        entities=[entity],
        schema=[Field(name="id", dtype=Int64), Field(name="exact", dtype=Int64)],
        source=source("rounded", f"{dataset}.filled", created=""),
    )
    refusing = feast_store(dataset, tmp_path, [entity, view])
    with pytest.raises(RunnerError, match="exact is declared INT64 but its column is NUMERIC"):
        refusing.get_historical_features(SPINE.format(dataset=dataset), ["rounded:exact"])


def test_a_pull_finds_the_newest_row_of_each_key(
    store: FeatureStore, client: bigquery.Client, dataset: str
) -> None:
    later = (NOON + timedelta(hours=1)).isoformat()
    client.query(
        f"insert into {dataset}.filled (id, event_timestamp, whole) "
        f"values (1, timestamp '{later}', 5), (1, timestamp '{later}', 7)"
    ).result()
    origin = store.get_feature_view("filled").batch_source
    span = (NOON, NOON + timedelta(days=1))
    names = (["id"], ["whole", "real"], "event_timestamp", None)
    pull = PointInTimeBigQueryOfflineStore.pull_latest_from_table_or_query
    newest = pull(store.config, origin, *names, *span).to_arrow().sort_by("id")
    assert newest.column("whole").to_pylist() == [7, None]
    every = PointInTimeBigQueryOfflineStore.pull_all_from_table_or_query
    rows = every(store.config, origin, *names, *span).to_arrow()
    assert rows.num_rows == 4
    assert every(store.config, origin, *names, None, NOON).to_arrow().num_rows == 2


def test_without_a_spine_every_key_and_time_of_the_view_is_one_row(store: FeatureStore) -> None:
    span = {"start_date": NOON, "end_date": NOON + timedelta(minutes=1)}
    rows = store.get_historical_features(None, ["filled:whole"], **span).to_arrow().to_pylist()
    assert [(row["id"], row["whole"]) for row in rows] == [(1, 2**53 + 1), (2, None)]

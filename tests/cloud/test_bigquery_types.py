"""Values come out of BigQuery as docs/bigquery.md says, and the pulls find the newest rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
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
    ("day_text", "date", String, pa.string(), "date '1969-12-31'", "1969-12-31"),
    ("clock", "time", String, pa.string(), "time '12:30:00'", "12:30:00"),
    ("number_text", "int64", String, pa.string(), "7", "7"),
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


@pytest.mark.parametrize(
    ("column", "declared", "told"),
    [
        ("exact", Int64, "INT64 but its column is NUMERIC"),
        ("real", Int64, "INT64 but its column is FLOAT64"),
        ("word", Int64, "INT64 but its column is STRING"),
        ("flag", Float64, "DOUBLE but its column is BOOL"),
        ("whole", UnixTimestamp, "UNIX_TIMESTAMP but its column is INT64"),
    ],
)
def test_a_feature_of_another_type_than_declared_is_refused(
    store: FeatureStore,
    dataset: str,
    entity: Entity,
    tmp_path: Path,
    column: str,
    declared: Any,
    told: str,
) -> None:
    view = FeatureView(
        name="rounded",
        entities=[entity],
        schema=[Field(name="id", dtype=Int64), Field(name=column, dtype=declared)],
        source=source("rounded", f"{dataset}.filled", created=""),
    )
    refusing = feast_store(dataset, tmp_path, [entity, view])
    with pytest.raises(RunnerError, match=f"{column} is declared {told}"):
        refusing.get_historical_features(SPINE.format(dataset=dataset), [f"rounded:{column}"])


def test_a_source_that_reads_a_table_named_like_ours_reads_that_table(
    store: FeatureStore, dataset: str, entity: Entity, tmp_path: Path
) -> None:
    view = FeatureView(
        name="named",
        entities=[entity],
        schema=[Field(name="id", dtype=Int64), Field(name="whole", dtype=Int64)],
        source=source(
            "named",
            f"select * from (with Spine as (select * from {dataset}.filled) select * from SPINE)",
            created="",
        ),
    )
    named = feast_store(dataset, tmp_path, [entity, view])
    job = named.get_historical_features(SPINE.format(dataset=dataset), ["named:whole"])
    assert job.to_arrow().column("whole").to_pylist() == [2**53 + 1, None]


def test_a_spines_numeric_is_a_float_or_refused(store: FeatureStore, dataset: str) -> None:
    spine = f"{SPINE.format(dataset=dataset).replace('select id', 'select id, {} as amount')}"
    job = store.get_historical_features(spine.format("numeric '12.34'"), ["filled:whole"])
    assert job.to_arrow().column("amount").to_pylist() == [12.34, 12.34]
    digits = "123456789012345.678"
    spine = spine.format(f"if(id = 1, numeric '{digits}', null)")
    with pytest.raises(RunnerError, match=f"does not hold all digits of {digits}"):
        store.get_historical_features(spine, ["filled:whole"]).to_arrow()


def test_a_key_with_a_fraction_of_a_second_is_refused(
    store: FeatureStore, dataset: str, tmp_path: Path
) -> None:
    entity = Entity(name="at", join_keys=["at"], value_type=ValueType.UNIX_TIMESTAMP)
    view = FeatureView(
        name="moments",
        entities=[entity],
        schema=[Field(name="at", dtype=UnixTimestamp), Field(name="whole", dtype=Int64)],
        source=source("moments", f"select past as at, * from {dataset}.filled", created=""),
    )
    moments = feast_store(dataset, tmp_path, [entity, view])
    spine = "select timestamp '{}' as at, timestamp '2024-06-01' as event_timestamp"
    job = moments.get_historical_features(spine.format("1912-06-23"), ["moments:whole"])
    assert job.to_arrow().column("whole").to_pylist() == [None]
    spine = spine.format("1912-06-23 00:00:00.000001")
    with pytest.raises(RunnerError, match="join key at has a fraction of a second"):
        moments.get_historical_features(spine, ["moments:whole"]).to_arrow()


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

"""Values come back as what they are: integers exact, times in UTC, NULL apart from NaN."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pytest
from feast import Entity, FeatureStore, FeatureView, Field
from feast.types import (
    Array,
    Bool,
    Bytes,
    Float32,
    Float64,
    Int32,
    Int64,
    String,
    UnixTimestamp,
)
from feast.value_type import ValueType

from runner.errors import RunnerError
from runner.settings import PostgresAddress
from tests.feast_stores import feast_store, source

UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")
BIG = 2**53 + 1

# column, SQL type, Feast type, Arrow type, SQL value, Python value
TYPES: list[tuple[str, str, Any, pa.DataType, str, Any]] = [
    ("bigint", "bigint", Int64, pa.int64(), str(BIG), BIG),
    ("widened", "integer", Int64, pa.int64(), "7", 7),
    ("int", "integer", Int32, pa.int32(), "-1", -1),
    ("small", "smallint", Int32, pa.int32(), "3", 3),
    ("double", "double precision", Float64, pa.float64(), "0.1", 0.1),
    ("real", "real", Float32, pa.float32(), "0.5", 0.5),
    ("real_wide", "real", Float64, pa.float64(), "0.25", 0.25),
    ("count_as_float", "bigint", Float64, pa.float64(), "4", 4.0),
    ("numeric", "numeric(12, 3)", Float64, pa.float64(), "1.125", 1.125),
    ("numeric_text", "numeric(12, 3)", String, pa.string(), "1.125", "1.125"),
    ("bool", "boolean", Bool, pa.bool_(), "true", True),
    ("text", "text", String, pa.string(), "'Ünï\\code ''q\"'", "Ünï\\code 'q\""),
    ("varchar", "varchar(9)", String, pa.string(), "'v'", "v"),
    ("bytes", "bytea", Bytes, pa.binary(), "'\\x00ff'", b"\x00\xff"),
    ("uuid", "uuid", String, pa.string(), "'00000000-0000-0000-0000-00000000000A'",
     "00000000-0000-0000-0000-00000000000a"),
    ("json", "jsonb", String, pa.string(), "'{\"a\": 1}'", '{"a": 1}'),
    ("json_plain", "json", String, pa.string(), "'{\"a\":1}'", '{"a":1}'),
    ("mood", "mood", String, pa.string(), "'glad'", "glad"),
    ("past", "timestamptz", UnixTimestamp, UTC_MICROSECONDS,
     "'1912-06-23 00:00:00.000001+00'", dt.datetime(1912, 6, 23, 0, 0, 0, 1, tzinfo=dt.UTC)),
    ("zoneless", "timestamp", UnixTimestamp, UTC_MICROSECONDS,
     "'2024-03-10 02:30:00'", dt.datetime(2024, 3, 10, 2, 30, tzinfo=dt.UTC)),
    ("day", "date", UnixTimestamp, UTC_MICROSECONDS,
     "'1969-12-31'", dt.datetime(1969, 12, 31, tzinfo=dt.UTC)),
    ("ints", "bigint[]", Array(Int64), pa.list_(pa.int64()),
     f"array[{BIG}, null]", [BIG, None]),
    ("small_ints", "integer[]", Array(Int64), pa.list_(pa.int64()), "array[1]", [1]),
    ("texts", "text[]", Array(String), pa.list_(pa.string()), "'{}'", []),
    ("numerics", "numeric[]", Array(Float64), pa.list_(pa.float64()), "array[1.5]", [1.5]),
    ("times", "timestamp[]", Array(UnixTimestamp), pa.list_(UTC_MICROSECONDS),
     "array['2024-03-10 02:30:00'::timestamp]",
     [dt.datetime(2024, 3, 10, 2, 30, tzinfo=dt.UTC)]),
]  # fmt: skip
NAMES = [name for name, *_ in TYPES]


@pytest.fixture(scope="module")
def connection(module_database: PostgresAddress) -> Any:
    with psycopg.connect(**module_database.conninfo, autocommit=True) as connection:
        connection.execute(
            f"alter database {module_database.database} set timezone = 'America/New_York'"
        )
        connection.execute("create type mood as enum ('sad', 'glad')")
        columns = ", ".join(f'"{name}" {sql_type}' for name, sql_type, *_ in TYPES)
        connection.execute(
            f"create table filled (id bigint, event_timestamp timestamptz, {columns})"
        )
        values = ", ".join(value for *_, value, _ in TYPES)
        connection.execute(f"insert into filled values (1, '2024-05-01+00', {values})")
        nulls = ", ".join("null" for _ in TYPES)
        connection.execute(f"insert into filled values (2, '2024-05-01+00', {nulls})")
        connection.execute("create table indexed (like filled)")
        connection.execute("insert into indexed select * from filled")
        connection.execute("create index on indexed (id, event_timestamp)")
        yield connection


@pytest.fixture(scope="module")
def store(
    connection: Any, module_database: PostgresAddress, tmp_path_factory: pytest.TempPathFactory
) -> FeatureStore:
    entity = Entity(name="id", join_keys=["id"], value_type=ValueType.INT64)
    fields = [Field(name=name, dtype=dtype) for name, _, dtype, *_ in TYPES]
    views = [
        FeatureView(
            name=name,
            entities=[entity],
            schema=[Field(name="id", dtype=Int64), *fields],
            source=source(name, name, created=""),
        )
        for name in ("filled", "indexed")
    ]
    return feast_store(module_database, tmp_path_factory.mktemp("feast"), [entity, *views])


SPINE = """
select id, '2024-06-01 00:00:00+02'::timestamptz as event_timestamp, label
from (values (1, 9007199254740993), (2, null), (3, 0)) as spine (id, label)
"""


def _retrieve(store: FeatureStore, view: str, spine: Any = SPINE) -> Any:
    return store.get_historical_features(
        entity_df=spine, features=[f"{view}:{name}" for name in NAMES]
    )


@pytest.mark.parametrize("view", ["filled", "indexed"])
@pytest.mark.parametrize(("name", "arrow_type", "value"), [(t[0], t[3], t[5]) for t in TYPES])
def test_a_value_survives(
    tables: dict[str, pa.Table], view: str, name: str, arrow_type: pa.DataType, value: Any
) -> None:
    column = tables[view].column(name)
    assert column.type == arrow_type
    assert column.to_pylist() == [value, None, None]


@pytest.fixture(scope="module")
def tables(store: FeatureStore) -> dict[str, pa.Table]:
    return {view: _retrieve(store, view).to_arrow() for view in ("filled", "indexed")}


def test_spine_columns_come_back_untouched_and_times_in_utc(tables: dict[str, pa.Table]) -> None:
    table = tables["filled"]
    assert table.column_names == ["id", "event_timestamp", "label", *NAMES]
    assert table.column("label").to_pylist() == [BIG, None, 0]
    assert table.schema.field("event_timestamp").type == UTC_MICROSECONDS
    assert (
        table.column("event_timestamp").to_pylist()
        == [dt.datetime(2024, 5, 31, 22, tzinfo=dt.UTC)] * 3
    )


def test_pandas_gets_nullable_integers_and_booleans(store: FeatureStore) -> None:
    frame = _retrieve(store, "indexed").to_df()
    assert frame["bigint"].dtype == pd.Int64Dtype()
    assert frame["bigint"].tolist() == [BIG, pd.NA, pd.NA]
    assert frame["label"].tolist() == [BIG, pd.NA, 0]
    assert frame["bool"].dtype == pd.BooleanDtype()
    assert frame["double"].dtype == np.float64
    assert str(frame["past"].dtype) == "datetime64[us, UTC]"


@pytest.mark.parametrize("view", ["filled", "indexed"])
def test_an_empty_spine_gives_an_empty_frame_with_the_same_types(
    store: FeatureStore, tables: dict[str, pa.Table], view: str
) -> None:
    empty = _retrieve(store, view, f"select * from ({SPINE}) as s where id < 0").to_arrow()
    assert empty.num_rows == 0
    assert empty.schema == tables[view].schema
    frame = pd.DataFrame(
        {"id": pd.array([], "int64"), "event_timestamp": pd.array([], "datetime64[us, UTC]")}
    )
    by_frame = _retrieve(store, view, frame)
    assert by_frame.to_arrow().schema.field("bigint").type == pa.int64()
    assert len(by_frame.to_df()) == 0


def test_nan_and_null_stay_apart(connection: Any, store: FeatureStore) -> None:
    connection.execute(
        "insert into filled (id, event_timestamp, double, numeric) "
        "values (5, '2024-05-01+00', 'NaN', null), (6, '2024-05-01+00', null, 'NaN')"
    )
    spine = (
        "select id, timestamptz '2024-06-01+00' as event_timestamp "
        "from (values (5), (6)) s(id) order by id"
    )
    table = _retrieve(store, "filled", spine).to_arrow()
    doubles, numerics = (table.column(name).to_pylist() for name in ("double", "numeric"))
    assert math.isnan(doubles[0])
    assert doubles[1] is None
    assert numerics[0] is None
    assert math.isnan(numerics[1])


def test_a_numeric_column_declared_an_integer_is_refused(
    connection: Any, module_database: PostgresAddress, tmp_path: Any
) -> None:
    entity = Entity(name="id", join_keys=["id"], value_type=ValueType.INT64)
    view = FeatureView(
        name="rounded",
        entities=[entity],
        schema=[Field(name="id", dtype=Int64), Field(name="numeric", dtype=Int64)],
        source=source("rounded", "filled", created=""),
    )
    store = feast_store(module_database, tmp_path, [entity, view])
    with pytest.raises(RunnerError, match="numeric is declared INT64 but its column is numeric"):
        store.get_historical_features(entity_df=SPINE, features=["rounded:numeric"])


@pytest.mark.parametrize(
    "keys",
    [
        [1.0, None, 2.0],
        pd.array([1, None, 2], "Int64"),
        pd.array([1, None, 2], "Int32"),
        pd.Categorical([1, None, 2]),
    ],
)
def test_a_frames_keys_may_be_any_whole_numbers(store: FeatureStore, keys: Any) -> None:
    frame = pd.DataFrame({"id": keys, "event_timestamp": pd.Timestamp("2024-06-01", tz="UTC")})
    found = _retrieve(store, "indexed", frame).to_arrow().column("int").to_pylist()
    assert found == [-1, None, None]


@pytest.mark.parametrize("keys", [["1", "2"], [1.5, 2.0]])
def test_keys_of_another_kind_are_refused(store: FeatureStore, keys: list[Any]) -> None:
    frame = pd.DataFrame({"id": keys, "event_timestamp": pd.Timestamp("2024-06-01", tz="UTC")})
    with pytest.raises(
        RunnerError, match=r"join key id is \w+ in the spine but int8 in feature view indexed"
    ):
        _retrieve(store, "indexed", frame)


def test_a_frame_keeps_its_columns_and_gets_its_times_in_utc(store: FeatureStore) -> None:
    times = pd.to_datetime(
        ["2024-06-01 00:00:00.000000999", "1969-12-31 23:59:59.999999999"]
    ).tz_localize("Europe/Berlin")
    frame = pd.DataFrame(
        {"note": ["a", None], "id": [1, 1], "event_timestamp": times, "label": [np.nan, 1.0]}
    )
    table = _retrieve(store, "indexed", frame).to_arrow()
    assert table.column_names[:4] == ["note", "id", "event_timestamp", "label"]
    assert table.column("note").to_pylist() == ["a", None]
    assert table.schema.field("event_timestamp").type == pa.timestamp("ns", tz="UTC")
    assert table.column("int").to_pylist() == [-1, None]


def test_a_naive_or_textual_frame_time_is_utc(store: FeatureStore) -> None:
    for times in (["2024-05-01 00:00:00"], [dt.datetime(2024, 5, 1)]):  # noqa: DTZ001
        frame = pd.DataFrame({"id": [1], "event_timestamp": times})
        assert _retrieve(store, "indexed", frame).to_arrow().column("int").to_pylist() == [-1]

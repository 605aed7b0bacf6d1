"""Our bytes against Feast's own serialization, which shares no code with ours."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import hiredis
import pyarrow as pa
import pytest
from feast.infra.online_stores.helpers import _mmh3, _redis_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contract.feast_format import colliding_features, field_hash, time_field
from runner.online.redis_encoding import (
    KeyFormat,
    encode_times,
    encode_values,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INT32 = st.integers(-(2**31), 2**31 - 1)
_INT64 = st.integers(-(2**63), 2**63 - 1)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_INSTANT = st.integers(-(2**51), 2**52).map(lambda n: _EPOCH + timedelta(microseconds=n))
_TYPES: dict[str, tuple[pa.DataType, ValueType, st.SearchStrategy[Any]]] = {
    "int32": (pa.int32(), ValueType.INT32, _INT32),
    "int64": (pa.int64(), ValueType.INT64, _INT64),
    "float64": (pa.float64(), ValueType.DOUBLE, st.floats()),
    "float32": (pa.float32(), ValueType.FLOAT, st.floats(width=32)),
    "bool": (pa.bool_(), ValueType.BOOL, st.booleans()),
    "string": (pa.string(), ValueType.STRING, _TEXT),
    "timestamp": (pa.timestamp("us", "UTC"), ValueType.UNIX_TIMESTAMP, _INSTANT),
}
_KEYS: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "int32": ("int32_val", _INT32),
    "int64": ("int64_val", _INT64),
    "string": ("string_val", _TEXT),
    "timestamp": ("unix_timestamp_val", _INT64.map(lambda n: n // 2**30)),
}


def _unframed(fragments: list[bytes]) -> list[bytes]:
    reader = hiredis.Reader()
    reader.feed(b"".join(fragments))
    values = [reader.gets() for _ in fragments]
    assert reader.gets() is False, "nothing may follow the last value"
    return values


def _feast_values(values: list[Any], kind: ValueType) -> list[bytes]:
    """Feast's bytes; value by value, because Feast infers a whole column from a sample."""
    return [
        b""
        if value is None
        else python_values_to_proto_values([value], kind)[0].SerializeToString()
        for value in values
    ]


@pytest.mark.parametrize("dtype", _TYPES)
@given(data=st.data())
def test_every_value_is_the_bytes_that_feast_writes(dtype: str, data: st.DataObject) -> None:
    arrow, kind, strategy = _TYPES[dtype]
    values = data.draw(st.lists(st.none() | strategy, max_size=30))
    if dtype == "timestamp":  # Feast drops the fraction; before 1970 only sometimes downwards
        values = [v.replace(microsecond=0) if v else v for v in values]
    ours = _unframed(encode_values(pa.array(values, arrow), dtype))
    assert ours == _feast_values(values, kind)


@pytest.mark.parametrize(
    "number", [0, 1, 127, 128, 2**14, 2**53 + 1, 2**63 - 1, -1, -(2**63), 2**35 - 1, 2**35]
)
def test_integers_are_exact_at_the_edges_of_the_encoding(number: int) -> None:
    ours = _unframed(encode_values(pa.array([number], pa.int64()), "int64"))
    assert ours == [Value(int64_val=number).SerializeToString()]


@pytest.mark.parametrize("length", [0, 127, 128, 20_000])
def test_long_texts_carry_their_length_in_as_many_bytes_as_it_needs(length: int) -> None:
    text = "é" * (length // 2) + "x" * (length % 2)
    ours = _unframed(encode_values(pa.array([text]), "string"))
    assert ours == [Value(string_val=text).SerializeToString()]


def test_nan_is_null_as_in_feast() -> None:
    ours = _unframed(encode_values(pa.array([math.nan, None, 1.0]), "float64"))
    assert ours == [b"", b"", Value(double_val=1.0).SerializeToString()]


def test_a_timestamp_before_1970_is_floored_to_whole_seconds() -> None:
    moment = datetime(1969, 12, 31, 23, 59, 58, 500_000, tzinfo=UTC)
    ours = _unframed(encode_values(pa.array([moment], pa.timestamp("us", "UTC")), "timestamp"))
    assert ours == [Value(unix_timestamp_val=-2).SerializeToString()]


def test_a_sliced_array_is_encoded_from_its_own_rows() -> None:
    array = pa.array([1, None, 3, 4], pa.int64()).slice(1, 2)
    ours = _unframed(encode_values(array, "int64"))
    assert ours == [b"", Value(int64_val=3).SerializeToString()]


@pytest.mark.parametrize("dtype", _TYPES)
def test_no_rows_and_only_nulls_are_fine(dtype: str) -> None:
    arrow = _TYPES[dtype][0]
    assert encode_values(pa.array([], arrow), dtype) == []
    assert _unframed(encode_values(pa.array([None, None], arrow), dtype)) == [b"", b""]


def test_the_head_stands_before_every_value() -> None:
    array = pa.array(["a", None])
    assert encode_values(array, "string", b"HEAD") == [
        b"HEAD$3\r\n\x12\x01a\r\n",
        b"HEAD$0\r\n\r\n",
    ]


@given(st.lists(_INSTANT))
@example([_EPOCH])
@example([datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)])
def test_event_times_are_the_bytes_that_feast_writes(times: list[datetime]) -> None:
    expected = []
    for moment in times:
        message = Timestamp()
        message.FromDatetime(moment)
        expected.append(message.SerializeToString())
    assert encode_times(pa.array(times, pa.timestamp("us", "UTC"))) == expected


@settings(max_examples=200)
@given(data=st.data(), project=_TEXT)
def test_every_key_is_the_bytes_that_feast_writes(data: st.DataObject, project: str) -> None:
    names = data.draw(st.lists(_TEXT.filter(bool), unique=True, max_size=3))
    dtypes = {name: data.draw(st.sampled_from(sorted(_KEYS))) for name in names}
    rows = [
        [data.draw(_KEYS[dtypes[name]][1]) for name in names]
        for _ in range(data.draw(st.integers(0, 3)))
    ]
    columns = {
        name: _key_column([row[n] for row in rows], dtypes[name]) for n, name in enumerate(names)
    }
    keys = KeyFormat(project, dtypes)
    ours = keys.encode(columns, len(rows))
    assert ours == [_feast_key(project, names, dtypes, row) for row in rows]
    in_order = [tuple(row[names.index(name)] for name in sorted(names)) for row in rows]
    assert [keys.decode(key) for key in ours] == in_order


def _key_column(values: list[Any], dtype: str) -> pa.Array:
    if dtype == "timestamp":
        return pa.array(values, pa.int64()).cast(pa.timestamp("s", "UTC"))
    return pa.array(values, _TYPES[dtype][0])


def _feast_key(project: str, names: list[str], dtypes: dict[str, str], row: list[Any]) -> bytes:
    join_keys = names or ["__dummy_id"]
    values = [
        Value(**{_KEYS[dtypes[name]][0]: value}) for name, value in zip(names, row, strict=True)
    ] or [Value(string_val="")]
    return bytes(_redis_key(project, EntityKey(join_keys=join_keys, entity_values=values)))


def test_a_key_of_another_kind_is_told_apart() -> None:
    keys = KeyFormat("shop", {"user_id": "int64"})
    own = keys.encode({"user_id": pa.array([7])}, 1)[0]
    same_columns = {"user_id": pa.array([7], pa.int32())}
    others = [
        b"",
        b"runner:materialize:shop:v",
        own[:-5] + b"shop",
        own[:-4] + b"other",
        own.replace(b"shop", b"myshop"),
        keys.prefix + b"shop",
        keys.prefix + b"\x04\x00\x00\x00\xff\xff\xff\xff12345678shop",
        KeyFormat("shop", {"user_id": "int32"}).encode(same_columns, 1)[0],
        KeyFormat("shop", {"user_id": "string"}).encode({"user_id": pa.array(["7"])}, 1)[0],
    ]
    assert keys.decode(own) == (7,)
    assert [keys.decode(key) for key in others] == [None] * len(others)


def test_a_text_key_that_is_not_text_is_told_apart() -> None:
    keys = KeyFormat("shop", {"code": "string"})
    assert keys.decode(keys.prefix + b"\x02\x00\x00\x00\x02\x00\x00\x00\xff\xfeshop") is None
    number = KeyFormat("shop", {"code": "int64"}).encode({"code": pa.array([1])}, 1)[0]
    assert keys.decode(number) is None


@given(_TEXT, _TEXT)
def test_fields_are_named_as_feast_names_them(view: str, feature: str) -> None:
    assert field_hash(view, feature) == _mmh3(f"{view}:{feature}")
    assert time_field(view) == f"_ts:{view}".encode()


_TWINS = ("mean_orders_mobile_14d", "p95_carts_store_14d")


def test_two_features_of_one_view_that_share_a_field_are_named() -> None:
    pairs = colliding_features({"user_activity": ["orders", *_TWINS]})
    assert pairs == [tuple(f"user_activity:{name}" for name in _TWINS)]


def test_features_of_two_views_that_share_a_field_are_named() -> None:
    assert field_hash("a", "f_67064") == field_hash("b", "f_126282")
    assert colliding_features({"a": ["f_67064"], "b": ["f_1", "f_126282"]}) == [
        ("a:f_67064", "b:f_126282")
    ]


def test_features_with_fields_of_their_own_are_fine() -> None:
    assert colliding_features({"a": ["f", "g"], "b": ["f"]}) == []

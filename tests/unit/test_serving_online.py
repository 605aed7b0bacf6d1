"""Our reader of Feast's online format against Feast's and protobuf's own code."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hiredis
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contract.bundle import Bundle, BundleFeature, BundleKey
from contract.bundle_reader import read_bundle
from contract.feast_format import time_field
from contract.serving_errors import InvalidOnlineValueError
from contract.values import (
    DECODERS,
    FLOAT32_MAX,
    UNREADABLE,
    decode_timestamp,
    run_decoders,
)
from runner.online.redis_encoding import KeyFormat
from serving.features.online import OnlineFormat
from serving.features.online_row import OnlineRow
from serving.http_errors import InvalidEntityRowError
from tests.serving_bundles import (
    entity_key,
    redis_field,
    timestamp_proto,
    value_proto,
    write_linear_bundle,
)

INT64 = st.integers(-(2**63), 2**63 - 1)
INT32 = st.integers(-(2**31), 2**31 - 1)
FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
VALUES = {
    "int64": INT64,
    "int32": INT32,
    "float64": st.floats(-FLOAT32_MAX, FLOAT32_MAX),
    "float32": FLOAT32,
    "bool": st.booleans(),
    "string": st.text(),
}
TYPED_VALUES = st.sampled_from(sorted(VALUES)).flatmap(
    lambda dtype: st.tuples(st.just(dtype), VALUES[dtype])
)
NOW = 1_800_000_000.0


@pytest.fixture(name="bundle", scope="module")
def _bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder: Path = tmp_path_factory.mktemp("bundle")
    write_linear_bundle(folder)
    return read_bundle(folder)


def _parsed(command: bytes) -> list[bytes]:
    """Return a packed command's words, as a Redis server would read them."""
    reader = hiredis.Reader()
    reader.feed(command)
    words: list[bytes] = reader.gets()
    assert reader.gets() is False
    return words


@given(TYPED_VALUES)
def test_every_value_that_feast_writes_is_read_back_exactly(typed: tuple[str, Any]) -> None:
    dtype, value = typed
    read = DECODERS[dtype](value_proto(dtype, value))
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("dtype", sorted(VALUES))
def test_both_of_feasts_nulls_are_read_as_none(dtype: str) -> None:
    from feast.protos.feast.types.Value_pb2 import NULL, Value

    assert DECODERS[dtype](b"") is None
    assert DECODERS[dtype](Value(null_val=NULL).SerializeToString()) is None


STORED_DOUBLES = st.one_of(
    VALUES["float64"].map(lambda value: value_proto("float64", value)),
    st.sampled_from(
        [None, b"", *(value_proto("float64", value) for value in (math.nan, math.inf, 1e39, -0.0))]
    ),
    st.tuples(st.just("int64"), INT64).map(lambda typed: value_proto(*typed)),
    st.just(value_proto("float64", 1.5)[:-1]),
)


@example([value_proto("float64", 1.5) * 2, b""], -1)
@example([value_proto("float64", 1.5) + b"\x29", value_proto("float64", 2.5)[1:]], -1)
@given(st.lists(STORED_DOUBLES, min_size=1, max_size=5), st.integers(-1, 4))
def test_values_decoded_together_are_those_decoded_one_by_one(
    stored: list[bytes | None], text_at: int
) -> None:
    dtypes = ["float64"] * len(stored)
    if 0 <= text_at < len(stored):
        dtypes[text_at], stored[text_at] = "string", value_proto("string", "x")

    def together() -> list[Any]:
        return [value for part, read in run_decoders(dtypes) for value in read(stored[part])]

    def one_by_one() -> list[Any]:
        pairs = zip(dtypes, stored, strict=True)
        return [None if data is None else DECODERS[dtype](data) for dtype, data in pairs]

    try:
        expected = one_by_one()
    except UNREADABLE as err:
        with pytest.raises(type(err)):
            together()
    else:
        assert repr(together()) == repr(expected)  # -0.0 is not 0.0


@given(TYPED_VALUES, st.sampled_from(sorted(VALUES)))
def test_a_value_of_another_type_is_never_misread(typed: tuple[str, Any], wanted: str) -> None:
    dtype, value = typed
    if dtype != wanted:
        with pytest.raises(ValueError, match="another type"):
            DECODERS[wanted](value_proto(dtype, value))


@given(st.floats(-1e9, 4e9))
def test_event_times_are_read_to_the_microsecond(seconds: float) -> None:
    from google.protobuf.timestamp_pb2 import Timestamp

    stored = Timestamp()
    stored.FromNanoseconds(int(seconds * 1e9))
    assert decode_timestamp(stored.SerializeToString()) == pytest.approx(seconds, abs=1e-6)


@given(user_id=INT64, category_id=st.text(max_size=50))
def test_commands_name_the_hashes_that_feast_writes(
    bundle: Bundle, user_id: int, category_id: str
) -> None:
    row = {"category_id": category_id, "user_id": user_id}
    by_user, by_both = map(_parsed, _commands(OnlineFormat(bundle), row))
    assert by_user[1] == entity_key({"user_id": user_id})
    assert by_both[1] == entity_key({"category_id": category_id, "user_id": user_id})
    assert by_user[2:] == [
        b"_ts:user_demographics",
        redis_field("user_demographics", "age"),
        redis_field("user_demographics", "country"),
        b"_ts:user_activity",
        redis_field("user_activity", "orders_7d"),
        redis_field("user_activity", "is_active"),
    ]


def _with_key(bundle: Bundle, dtype: Any) -> OnlineFormat:
    feature = dataclasses.replace(bundle.features[0], join_keys=("k",))
    return OnlineFormat(
        dataclasses.replace(bundle, entity_keys=(BundleKey("k", dtype),), features=(feature,))
    )


@given(INT32)
def test_an_int32_key_is_named_as_feast_names_it(bundle: Bundle, value: int) -> None:
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey as Key
    from feast.protos.feast.types.Value_pb2 import Value

    expected = serialize_entity_key(
        Key(join_keys=["k"], entity_values=[Value(int32_val=value)]),
        entity_key_serialization_version=3,
    )
    (command,) = _commands(_with_key(bundle, "int32"), {"k": value})
    assert _parsed(command)[1] == expected + b"shop"


@example(datetime(1969, 12, 31, 23, 59, 58, 1, tzinfo=UTC))
@given(st.datetimes(timezones=st.timezones()).filter(lambda moment: 1 < moment.year < 9999))
def test_a_timestamp_key_is_named_as_feast_names_it(bundle: Bundle, moment: Any) -> None:
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey as Key
    from feast.protos.feast.types.Value_pb2 import Value

    seconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    value = Value(unix_timestamp_val=seconds)
    expected = serialize_entity_key(
        Key(join_keys=["k"], entity_values=[value]), entity_key_serialization_version=3
    )
    (command,) = _commands(_with_key(bundle, "timestamp"), {"k": moment.isoformat()})
    assert _parsed(command)[1] == expected + b"shop"
    column = pa.array([moment.astimezone(UTC)], pa.timestamp("us", "UTC"))
    written = KeyFormat("shop", {"k": "timestamp"}).encode({"k": column}, 1)
    assert [_parsed(command)[1]] == written


def test_a_view_without_entities_is_read_from_feasts_dummy_entity(bundle: Bundle) -> None:
    from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL

    feature = dataclasses.replace(bundle.features[0], join_keys=())
    online = OnlineFormat(dataclasses.replace(bundle, entity_keys=(), features=(feature,)))
    (command,) = _commands(online, {})
    assert _parsed(command)[1] == entity_key({DUMMY_ENTITY_ID: DUMMY_ENTITY_VAL})


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"user_id": 1}, "category_id is missing"),
        ({"user_id": 1, "category_id": "a", "shop": 1}, "'shop' is not an entity key; those are"),
        ({"user_id": "1", "category_id": "a"}, "user_id must be an integer of 64 bits"),
        ({"user_id": 1.0, "category_id": "a"}, "user_id must be an integer of 64 bits"),
        ({"user_id": True, "category_id": "a"}, "user_id must be an integer of 64 bits"),
        ({"user_id": None, "category_id": "a"}, "user_id must be an integer of 64 bits"),
        ({"user_id": 2**63, "category_id": "a"}, "user_id must be an integer of 64 bits"),
        ({"user_id": 10**30, "category_id": "a"}, "user_id must be an integer of 64 bits"),
        ({"user_id": 1, "category_id": 7}, "category_id must be a string"),
        ({"user_id": 1, "category_id": "\ud800"}, "category_id must be a string"),
        ([1, "a"], "an entity row is an object"),
        (None, "an entity row is an object"),
    ],
)
def test_a_wrong_entity_row_is_refused_naming_the_key(
    bundle: Bundle, row: Any, complaint: str
) -> None:
    with pytest.raises(InvalidEntityRowError, match=complaint):
        _commands(OnlineFormat(bundle), row)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("int32", 2**31),
        ("int32", -(10**30)),
        ("int32", True),
        ("int32", "1"),
        ("string", None),
        ("timestamp", None),
        ("timestamp", "0001-01-01T00:00:00"),
        ("timestamp", "2026-01-01T00:00:00"),
        ("timestamp", "soon"),
        ("timestamp", 5),
    ],
)
def test_a_key_out_of_its_type_is_refused(bundle: Bundle, dtype: str, value: Any) -> None:
    with pytest.raises(InvalidEntityRowError, match="k must be a"):
        _commands(_with_key(bundle, dtype), {"k": value})


def _user(seconds_ago: float, **values: bytes | None) -> list[bytes | None]:
    time = timestamp_proto(NOW - seconds_ago)
    stored = {"age": b"", "country": b"", "orders_7d": b"", "is_active": b""} | values
    return [time, stored["age"], stored["country"], time, stored["orders_7d"], stored["is_active"]]


def _read(bundle: Bundle, *replies: list[bytes | None]) -> OnlineRow:
    return _one(OnlineFormat(bundle), *replies)


def _commands(online: OnlineFormat, entity_row: Any) -> list[bytes]:
    lookup = online.lookup()
    lookup.add(online.keys.encode([entity_row]))
    return lookup.commands()


def _one(online: OnlineFormat, *replies: list[bytes | None]) -> OnlineRow:
    (row,), _ = online.rows([[reply] for reply in replies], [[0] * len(replies)], NOW)
    if isinstance(row, InvalidOnlineValueError):
        raise row
    return row


def test_each_feature_has_its_value_status_and_age(bundle: Bundle) -> None:
    user = _user(
        3_600, age=value_proto("int64", 2**53 + 1), country=None, orders_7d=value_proto("int64", 0)
    )
    online = OnlineFormat(bundle)
    row = _one(online, user, [None, None])
    assert row.values == [2**53 + 1, None, 0, None, None]
    assert row.statuses == ["present", "missing", "present", "null", "missing"]
    assert online.ages(row) == [3_600.0, 3_600.0, 3_600.0, 3_600.0, None]


def test_a_row_expires_one_instant_after_its_ttl(bundle: Bundle) -> None:
    ttl = 86_400
    value = value_proto("float64", 1.5)
    user = _user(0)
    at_ttl = _read(bundle, user, [timestamp_proto(NOW - ttl), value])
    after = _read(bundle, user, [timestamp_proto(NOW - ttl - 1), value])
    assert (at_ttl.values[4], at_ttl.statuses[4]) == (1.5, "present")
    assert (after.values[4], after.statuses[4]) == (None, "expired")
    assert after.read_at - after.times[2] == ttl + 1


def test_a_view_without_ttl_never_expires(bundle: Bundle) -> None:
    row = _read(bundle, _user(1e9, age=value_proto("int64", 30)), [None, None])
    assert row.statuses[:4] == ["present", "null", "expired", "expired"]


def test_a_stored_value_of_another_type_is_an_error_that_names_the_feature(bundle: Bundle) -> None:
    with pytest.raises(InvalidOnlineValueError, match="user_demographics:age is not int64"):
        _read(bundle, _user(0, age=value_proto("string", "x")), [None, None])


@pytest.mark.parametrize("broken", [b"\x20", b"\x20\xff", b"\x20" + b"\xff" * 9 + b"\x02"])
def test_a_cut_off_value_is_an_error(bundle: Bundle, broken: bytes) -> None:
    with pytest.raises(InvalidOnlineValueError, match="age is not int64"):
        _read(bundle, _user(0, age=broken), [None, None])


@pytest.mark.parametrize("number", [1e39, -1e39, math.inf, -math.inf])
def test_a_number_that_no_model_can_take_is_an_error_that_names_the_feature(
    bundle: Bundle, number: float
) -> None:
    affinity = [timestamp_proto(NOW), value_proto("float64", number)]
    message = "user_category_affinity:views_30d: .* is not between -3.4e[+]38 and 3.4e[+]38"
    with pytest.raises(InvalidOnlineValueError, match=message) as caught:
        _read(bundle, _user(0), affinity)
    assert "cap it in the feature mart's SQL" in caught.value.hint


def test_a_stored_nan_is_null_as_in_training(bundle: Bundle) -> None:
    affinity = [timestamp_proto(NOW), value_proto("float64", math.nan)]
    row = _read(bundle, _user(0), affinity)
    assert (row.values[4], row.statuses[4]) == (None, "null")


def test_what_is_not_stored_is_missing_even_where_its_row_has_expired(bundle: Bundle) -> None:
    affinity = [timestamp_proto(NOW - 86_401), None]
    assert _read(bundle, _user(0), affinity).statuses[4] == "missing"


def test_a_cut_off_text_is_an_error(bundle: Bundle) -> None:
    with pytest.raises(InvalidOnlineValueError, match="country is not string"):
        _read(bundle, _user(0, country=value_proto("string", "Nepal")[:-1]), [None, None])


@pytest.mark.parametrize(
    "broken",
    [
        b"\x08",
        b"\x08\xff",
        b"\x08" + b"\xff" * 2_000 + b"\x01",
        b"\x08" + b"\xff" * 8 + b"\x01",
        b"\x10" + b"\xff" * 8 + b"\x01",
        b"yesterday",
    ],
    ids=["empty", "cut off", "endless", "too late", "no nanoseconds", "text"],
)
def test_an_event_time_that_is_no_time_is_an_error_that_names_the_view(
    bundle: Bundle, broken: bytes
) -> None:
    user = _user(0)
    user[3] = broken
    with pytest.raises(InvalidOnlineValueError, match="event time of user_activity is") as caught:
        _read(bundle, user, [None, None])
    assert caught.value.hint == "run `runner materialize --full user_activity`"


def test_features_listed_out_of_their_views_come_in_the_bundles_order(bundle: Bundle) -> None:
    order = [4, 2, 0, 3, 1]
    shuffled: tuple[BundleFeature, ...] = tuple(bundle.features[i] for i in order)
    online = OnlineFormat(dataclasses.replace(bundle, features=shuffled))
    by_both, by_user = map(_parsed, _commands(online, {"user_id": 1, "category_id": "a"}))
    stored = {
        redis_field("user_demographics", "age"): value_proto("int64", 33),
        redis_field("user_demographics", "country"): value_proto("string", "NL"),
        redis_field("user_activity", "orders_7d"): value_proto("int64", 4),
        redis_field("user_activity", "is_active"): value_proto("bool", False),
        redis_field("user_category_affinity", "views_30d"): value_proto("float64", 0.25),
    }
    time = timestamp_proto(NOW)
    replies = [[stored.get(field, time) for field in words[2:]] for words in (by_both, by_user)]
    assert list(_one(online, *replies).values) == [0.25, 4, 33, False, "NL"]


def _stored(dtype: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes | None]:
    """Mostly a value; else NULL, nothing, or what is not of the dtype."""
    usual = values.map(lambda value: value_proto(dtype, value))
    return st.one_of(usual, usual, usual, st.sampled_from([b"", None, b"\x08"]))


_AGES = (0, 86_400, 1e6)
_TIMES = st.one_of(
    st.just(timestamp_proto(NOW - 60)),
    st.sampled_from([None, b"later", *(timestamp_proto(NOW - age) for age in _AGES)]),
)
_STORED_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            time_field("user_demographics"): _TIMES,
            time_field("user_activity"): _TIMES,
            time_field("user_category_affinity"): _TIMES,
            redis_field("user_demographics", "age"): _stored("int64", INT64),
            redis_field("user_demographics", "country"): _stored("string", st.text(max_size=3)),
            redis_field("user_activity", "orders_7d"): _stored("int64", INT64),
            redis_field("user_activity", "is_active"): _stored("bool", st.booleans()),
            redis_field("user_category_affinity", "views_30d"): STORED_DOUBLES,
        }
    ),
    min_size=8,
    max_size=12,
)


@given(_STORED_ROWS, st.permutations(range(5)), st.booleans())
def test_rows_read_together_are_those_read_one_by_one(
    bundle: Bundle, stored: list[dict[bytes, bytes | None]], order: list[int], has_changed: bool
) -> None:
    features = tuple(bundle.features[at] for at in order)
    online = OnlineFormat(dataclasses.replace(bundle, features=features))
    online.changed = frozenset({2} if has_changed else ())
    commands = list(map(_parsed, _commands(online, {"user_id": 1, "category_id": "a"})))
    replies = [[[row[field] for field in words[2:]] for row in stored] for words in commands]
    places = [[at] * len(commands) for at in (*range(len(stored)), 0)]  # one shares its replies
    together, _ = online.rows(replies, places, NOW)
    one_by_one = [online.rows(replies, [own], NOW)[0][0] for own in places]
    assert list(map(_seen, together)) == list(map(_seen, one_by_one))


_NUMBER_ROWS = st.lists(
    st.lists(VALUES["float64"], min_size=5, max_size=5), min_size=8, max_size=12
)
_FAULTS = st.none() | st.tuples(
    st.integers(0, 7),
    st.integers(0, 7),
    st.one_of(STORED_DOUBLES, st.just(value_proto("float64", 1.5) + b"\x29"), _TIMES),
)


@example([[1.5] * 5] * 8, (3, 1, timestamp_proto(NOW - 1e6)), range(5))
@given(_NUMBER_ROWS, _FAULTS, st.permutations(range(5)))
def test_numbers_read_together_are_those_read_one_by_one(
    bundle: Bundle,
    values: list[list[float]],
    fault: tuple[int, int, bytes | None] | None,
    order: Sequence[int],
) -> None:
    doubles = [dataclasses.replace(bundle.features[at], dtype="float64") for at in order]
    online = OnlineFormat(dataclasses.replace(bundle, features=tuple(doubles)))
    by_both, by_user = map(_parsed, _commands(online, {"user_id": 1, "category_id": "a"}))
    fields = [*by_both[2:], *by_user[2:]]
    stored = []
    for row in values:
        left = iter(row)
        is_time = [field.startswith(b"_ts:") for field in fields]
        time = timestamp_proto(NOW - 60)
        stored.append([time if one else value_proto("float64", next(left)) for one in is_time])
    if fault is not None:
        row_at, field_at, stored[row_at][field_at] = fault
    replies = [
        [row[: len(by_both) - 2] for row in stored],
        [row[len(by_both) - 2 :] for row in stored],
    ]
    places = [[at, at] for at in range(len(stored))]
    together, numbers = online.rows(replies, places, NOW)
    one_by_one = [online.rows(replies, [own], NOW)[0][0] for own in places]
    assert list(map(_seen, together)) == list(map(_seen, one_by_one))
    if fault is None:
        assert numbers is not None
    if numbers is not None:
        seen = [list(row.values) for row in together if isinstance(row, OnlineRow)]
        assert repr(numbers.tolist()) == repr(seen)


def test_complete_rows_are_read_together(bundle: Bundle) -> None:
    online = OnlineFormat(bundle)
    complete = _user(
        0,
        age=value_proto("int64", 30),
        country=value_proto("string", "NL"),
        orders_7d=value_proto("int64", 4),
        is_active=value_proto("bool", True),
    )
    affinity = [timestamp_proto(NOW), value_proto("float64", 0.25)]
    rows, _ = online._many.read([[complete], [affinity]], [[0, 0]] * 8, NOW)
    assert [list(row.values) for row in rows.values()] == [[30, "NL", 4, True, 0.25]] * 8


def _seen(row: OnlineRow | InvalidOnlineValueError) -> str:
    if isinstance(row, InvalidOnlineValueError):
        return row.message
    lists = list(row.values), list(row.statuses), list(row.times)
    return f"{lists} {row.read_at} {row.is_complete}"

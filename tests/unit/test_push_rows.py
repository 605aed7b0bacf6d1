"""What is pushed has Feast's bytes, which Feast's own code makes here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.event_format import PUSH_ID, EventColumn, EventTable, PushedView
from contract.event_values import BadEventError
from contract.push_rows import PushedRows
from contract.values import FLOAT32_MAX
from tests.online_project import PROJECT, empty_mart, redis_key, serialized

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LAST = datetime(9999, 12, 31, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
INSTANT = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(  # noqa: DTZ001 - made UTC
    lambda moment: moment.replace(tzinfo=UTC)
)
FLOAT = st.floats(-FLOAT32_MAX, FLOAT32_MAX)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int64": st.integers(-(2**63), 2**63 - 1),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "float64": FLOAT,
    "float32": st.floats(-FLOAT32_MAX, FLOAT32_MAX, width=32),
    "string": TEXT,
    "bool": st.booleans(),
    # Of whole seconds: Feast cuts those before 1970 the other way than a warehouse's floor.
    "timestamp": INSTANT.map(lambda moment: moment.replace(microsecond=0)),
}
KEYS = ("int64", "int32", "string", "timestamp")


def pushed(keys: dict[str, str], features: dict[str, str]) -> PushedRows:
    columns = [EventColumn(PUSH_ID, "string"), EventColumn("event_timestamp", "timestamp")]
    columns += [EventColumn(name, dtype) for name, dtype in (keys | features).items()]
    view = PushedView("v", keys, features, "event_timestamp")
    return PushedRows(EventTable("t", "raw", "t", PUSH_ID, tuple(columns), view=view), PROJECT)


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()}


@given(st.fixed_dictionaries({dtype: st.none() | VALUES[dtype] for dtype in VALUES}), INSTANT)
def test_values_and_times_are_feasts(values: dict[str, Any], moment: datetime) -> None:
    features = {f"f_{dtype}": dtype for dtype in VALUES}
    rows = pushed({}, features)
    row = {f"f_{dtype}": value for dtype, value in values.items()} | {"event_timestamp": moment}
    mart = empty_mart("v", ("d", "s"), {}, features, ttl=None, created=False)
    [write] = rows.writes([rows.read_at(LAST, as_json(row), "p")])
    fields = dict(zip(write.arguments[3::2], write.arguments[4::2], strict=True))
    assert (write.key, fields) == (redis_key(mart, row), serialized(mart, row))


@given(st.fixed_dictionaries({f"k_{dtype}": VALUES[dtype] for dtype in KEYS}))
def test_keys_are_feasts(keys: dict[str, Any]) -> None:
    dtypes = {name: name.removeprefix("k_") for name in reversed(keys)}
    rows = pushed(dtypes, {"f": "int64"})
    mart = empty_mart("v", ("d", "s"), dtypes, {"f": "int64"}, ttl=None, created=False)
    row = rows.read_at(NOW, as_json(keys) | {"f": None}, None)
    assert rows.key(row) == redis_key(mart, keys)


def test_a_row_without_an_event_time_or_an_id_is_of_now_and_has_one() -> None:
    rows = pushed({"k": "int64"}, {"f": "int64"})
    first, second = (rows.read_at(NOW, {"k": 1, "f": 2}, None) for _ in range(2))
    assert first[1:] == [NOW.isoformat(), 1, 2]
    assert first[0] != second[0]


TIMED = {"k": 1, "event_timestamp": NOW.isoformat()}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([], "an event must be an object of columns"),
        ({"k": 1}, "f is missing; send null if it is not known"),
        ({"k": 1, "f": 1}, "event_timestamp is missing: a retry would give it another time"),
        (TIMED | {"f": "x"}, "f must be a whole number of 64 bits"),
        (TIMED | {"f": 1, "g": 1}, "'g' is not a column of t"),
        (
            {"k": 1, "f": 1, "event_timestamp": "2026-03-01T12:01:01Z"},
            "event_timestamp is more than a minute ahead of the server's clock",
        ),
    ],
)
def test_a_wrong_row_is_refused(row: object, reason: str) -> None:
    with pytest.raises(BadEventError) as caught:
        pushed({"k": "int64"}, {"f": "int64"}).read_at(NOW, row, "p")
    assert str(caught.value) == reason


def test_a_row_with_an_id_of_its_own_must_have_its_event_time() -> None:
    with pytest.raises(BadEventError, match="event_timestamp is missing: a retry"):
        pushed({"k": "int64"}, {"f": "int64"}).read_at(NOW, {"k": 1, "f": 1, PUSH_ID: "p"}, None)

"""Small worlds of feature and spine rows, joined by an offline store and by the oracle alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field
from feast.types import Float64, Int64, String
from feast.value_type import ValueType
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests import oracle

TTL = timedelta(seconds=10)
BASES = [
    datetime(2024, 3, 10, 7, tzinfo=UTC),  # New York's clocks go forward
    datetime(2024, 11, 3, 6, tzinfo=UTC),  # and back
    datetime(1931, 5, 1, tzinfo=UTC),
]
NEVER = datetime.max.replace(tzinfo=UTC)
"""A feature row's time that never comes: PostgreSQL's tables hold `infinity` for it."""

_MICROSECOND = timedelta(microseconds=1)
_OFFSETS = [
    timedelta(0),
    _MICROSECOND,
    TTL - _MICROSECOND,
    TTL,
    TTL + _MICROSECOND,
    timedelta(hours=1),
    timedelta(hours=24),
]
names = st.sampled_from([None, "", "1", "12", "3", "23", "a", "A", " a", "å", "日本", "x'\"\\,|%s"])
characters = st.characters(codec="utf-8", exclude_characters="\0")
texts = st.one_of(st.none(), st.text(characters, max_size=3))
World = tuple[list[oracle.Row], list[oracle.Row]]
FrameTypes = dict[str, str]
frame_types: st.SearchStrategy[FrameTypes] = st.fixed_dictionaries(
    {
        "world": st.sampled_from(["int64", "int8", "Int32", "float64", "category", "object"]),
        "name": st.sampled_from(["object", "string", "category"]),
        "event_timestamp": st.sampled_from(
            ["datetime64[ns, UTC]", "datetime64[us, Asia/Tokyo]", "object"]
        ),
    }
)
"""What pandas may hold an entity DataFrame's keys and times in."""


FEATURES = ["number", "text", "real"]
COLUMNS = ["world", "name", "event_timestamp", "created_at", *FEATURES]
SPINE_COLUMNS = ["world", "name", "other", "event_timestamp", "label"]
KEYS = {"world": "world", "name": "name"}
OTHER = {"world": "world", "other": "name"}


class Case(NamedTuple):
    """A feature view: its name in the retrieval, table or query, keys, ttl."""

    name: str
    relation: str
    keys: dict[str, str]
    ttl: timedelta | None
    has_created: bool


def in_examples(number: int) -> settings:
    """Return Hypothesis's settings for `number` examples against a store that many share."""
    return settings(
        max_examples=number,
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
        ],
    )


def feast_objects(cases: Sequence[Case], source: Callable[..., Any]) -> list[Any]:
    """Return entities and a feature view per case; `source` makes a warehouse's data source.

    The key that is no world stands in a column called `Select`, in upper case and reserved.
    """
    entities = {
        "world": Entity(name="world", join_keys=["world"], value_type=ValueType.INT64),
        "name": Entity(name="name", join_keys=["name"], value_type=ValueType.STRING),
        "other": Entity(name="other", join_keys=["other"], value_type=ValueType.STRING),
    }
    views = []
    for case in cases:
        text_key = next((key for key in case.keys if key != "world"), None)
        keys = [Field(name=key, dtype=Int64 if key == "world" else String) for key in case.keys]
        fields = [
            Field(name=name, dtype=dtype)
            for name, dtype in zip(FEATURES, (Int64, String, Float64), strict=True)
        ]
        data_source = source(
            case.name,
            case.relation,
            created="created_at" if case.has_created else "",
            field_mapping={"Select": text_key} if text_key else {},
        )
        views.append(
            FeatureView(
                name=case.name,
                entities=[entities[key] for key in case.keys],
                ttl=case.ttl or timedelta(0),
                schema=[*keys, *fields],
                source=data_source,
            )
        )
    return [*entities.values(), *views]


def merged(worlds: list[World]) -> World:
    """Return the rows of all worlds, which share no key: each has its number in `world`."""
    features = [{"world": n, **row} for n, (rows, _) in enumerate(worlds) for row in rows]
    spine = [{"world": n, **row} for n, (_, rows) in enumerate(worlds) for row in rows]
    return features, spine


def assert_joined_as_the_oracle_does(
    store: FeatureStore,
    cases: Sequence[Case],
    rows: World,
    spine_query: str,
    frame_types: FrameTypes,
) -> None:
    """Check the spine as SQL and as a DataFrame, joined to every case at once, row by row."""
    features, spine = rows
    views = [
        oracle.View(c.name, c.keys, FEATURES, c.ttl, "created_at" if c.has_created else None)
        for c in cases
    ]
    expected = oracle.join(spine, [(view, features) for view in views])
    frame = pd.DataFrame(spine, columns=SPINE_COLUMNS)
    frame["event_timestamp"] = pd.to_datetime(frame["event_timestamp"], utc=True)
    frame = frame.astype(frame_types)
    for entities in (spine_query, frame):
        found = store.get_historical_features(
            entity_df=entities,
            features=[f"{case.name}:{feature}" for case in cases for feature in FEATURES],
            full_feature_names=True,
        ).to_arrow()
        assert_same(found.to_pylist(), expected)


@st.composite
def rows_of_a_world(draw: st.DrawFn) -> World:
    """Feature and spine rows about one instant and a few names, so that they meet often."""
    base = draw(st.sampled_from(BASES))
    around = [base + sign * offset for offset in _OFFSETS for sign in (-1, 1)]
    times = st.sampled_from([base, base, *around, None])
    keys = st.sampled_from(draw(st.lists(names, min_size=1, max_size=3)))
    feature = st.fixed_dictionaries(
        {
            "name": keys,
            "event_timestamp": times | st.just(NEVER),
            "created_at": times | st.just(NEVER),
            "number": st.sampled_from([None, 0, 1, 2**53 + 1, -(2**63)]),
            "text": texts,
            "real": st.sampled_from([None, math.nan, math.inf, 0.5, -1.0]),
        }
    )
    row = st.fixed_dictionaries(
        {"name": keys, "other": keys, "event_timestamp": times, "label": texts}
    )
    return draw(st.lists(feature, max_size=10)), draw(st.lists(row, max_size=6))


worlds_of_rows = st.lists(rows_of_a_world(), min_size=1, max_size=12)


def edges() -> list[World]:
    """Worlds of one feature row and one spine row, at every distance that matters."""
    found: list[World] = []
    for base in BASES:
        for age in (*_OFFSETS, -_MICROSECOND):
            for known_after in (timedelta(0), _MICROSECOND, -_MICROSECOND, None):
                created = None if known_after is None else base + known_after
                feature = {"name": "a", "event_timestamp": base - age, "created_at": created}
                feature |= {"number": 1, "text": "t", "real": 0.5}
                row = {"name": "a", "other": "a", "event_timestamp": base, "label": None}
                found.append(([feature], [row]))
    return found


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return (type(left) is type(right) and left == right) or left == right


def assert_same(found: list[oracle.Row], expected: list[oracle.Row]) -> None:
    assert len(found) == len(expected)
    for found_row, expected_row in zip(found, expected, strict=True):
        for column, value in expected_row.items():
            assert _same(found_row[column], value), (column, expected_row, found_row[column])

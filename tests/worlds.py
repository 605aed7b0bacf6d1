"""Small worlds of feature and spine rows for the point-in-time join, and how to compare answers."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from tests import oracle

TTL = timedelta(seconds=10)
BASES = [
    datetime(2024, 3, 10, 7, tzinfo=UTC),  # New York's clocks go forward
    datetime(2024, 11, 3, 6, tzinfo=UTC),  # and back
    datetime(1931, 5, 1, tzinfo=UTC),
]
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
            "event_timestamp": times,
            "created_at": times,
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

"""Entries of the serving log: what is read is what was written."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import ormsgpack
from hypothesis import given
from hypothesis import strategies as st

from contract.log_format import FORMAT, LogEntry, encode_answers

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)
ROWS = st.lists(
    st.tuples(
        st.integers(0, 999),
        st.lists(VALUES, max_size=2),
        st.lists(VALUES, max_size=5),
        st.none() | st.text("pnmeoc", max_size=5),
        st.lists(st.none() | st.floats(0, 4e9), max_size=2),
        VALUES,
        st.none() | st.lists(st.floats(0, 1), max_size=3),
    ),
    max_size=3,
)
ANSWERS = st.lists(st.tuples(st.floats(0, 4e9), st.text("0aF-", max_size=36), ROWS), max_size=3)


@given(ANSWERS, ANSWERS, st.booleans())
def test_an_entry_is_read_as_it_was_written(first: Any, then: Any, is_shadow: bool) -> None:
    written = LogEntry("s", 7, "b", "3", 0.5, is_shadow=is_shadow)
    read = LogEntry.parse(written.dump([encode_answers(first), encode_answers(then)]))
    assert read is not None
    assert repr(read.answers) == repr(_lists([*first, *then]))  # -0.0 is not 0.0, 1 is not 1.0
    assert read.is_shadow == is_shadow
    assert (read.server, read.first, read.bundle, read.version, read.share) == (
        *("s", 7, "b", "3"),
        0.5,
    )


def _lists(value: Any) -> Any:
    return list(map(_lists, value)) if isinstance(value, list | tuple) else value


def test_a_time_is_written_as_text() -> None:
    row = (0, [1], [datetime(2026, 1, 31, 12, tzinfo=UTC), math.nan], None, [], 1, None)
    entry = LogEntry.parse(LogEntry("s", 1, "b", "3", 1.0, [(1.5, "r", [row])]).dump())
    assert entry is not None
    [(_, _, [(_, _, values, *_)])] = entry.answers
    assert values[0] == "2026-01-31T12:00:00+00:00"
    assert math.isnan(values[1])


_PARTS = st.recursive(VALUES | st.binary(max_size=5), lambda inner: st.lists(inner, max_size=7))


@given(st.lists(_PARTS.map(ormsgpack.packb) | VALUES, max_size=2), st.integers(0, 3))
def test_what_no_server_wrote_is_no_entry(parts: list[Any], first: int) -> None:
    read = LogEntry.parse(ormsgpack.packb((FORMAT, "s", first, "b", "3", 1.0, parts, False)))
    assert read is None or all(len(row) == 7 for _, _, rows in read.answers for row in rows)


@given(st.binary(max_size=30))
def test_other_bytes_are_no_entry(content: bytes) -> None:
    assert LogEntry.parse(content) is None


def test_an_entry_of_a_later_format_is_no_entry() -> None:
    content = LogEntry("s", 1, "b", "3", 1.0).dump()
    assert content[1] == FORMAT
    assert LogEntry.parse(content[:1] + bytes([FORMAT + 1]) + content[2:]) is None

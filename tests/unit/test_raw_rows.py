"""Waiting events as rows: their values may be older than the types that the source declares."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from contract.event_format import EventColumn, EventTable
from runner.errors import RunnerError
from runner.warehouse.raw_rows import RawRows

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def row(dtype: str, value: Any) -> Any:
    table = EventTable("t", "raw", "t", "x", (EventColumn("x", dtype),))
    return RawRows(table).received(NOW, ["x"], [[value]])[0][1]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("timestamp", "hello"),
        ("timestamp", "2026-03-01"),
        ("timestamp", 1),
        ("date", "2026-03-01T00:00:00+00:00"),
        ("string", {"a": 1}),
        ("string", 1),
        ("int64", "1"),
        ("int32", True),
        ("float64", "1.5"),
        ("bool", 1),
        ("numeric", "hello"),
        ("numeric", "NaN"),
        ("numeric", [1]),
    ],
)
def test_a_value_of_an_earlier_type_is_named(dtype: str, value: Any) -> None:
    with pytest.raises(RunnerError, match="waiting events have a 'x' that is not of the type"):
        row(dtype, value)


@pytest.mark.parametrize(
    ("dtype", "value", "made"),
    [
        ("float64", 1, 1.0),
        ("numeric", 5, "5"),
        ("numeric", "12.50", "12.50"),
        ("json", "hello", '"hello"'),
        ("timestamp", "2026-03-01T00:00:00+00:00", NOW),
        ("string", None, None),
    ],
)
def test_a_value_that_fits_the_new_type_is_kept(dtype: str, value: Any, made: Any) -> None:
    assert row(dtype, value) == made

"""Durations as people write them."""

import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.duration import PATTERN, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("12h", timedelta(hours=12)),
        ("7d", timedelta(days=7)),
        ("007 d", timedelta(days=7)),
        ("0d", timedelta(0)),
        ("36500d", timedelta(days=36_500)),
    ],
)
def test_a_number_and_a_unit_are_a_duration(text, duration):
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "d",
        "-7d",
        "+7d",
        "7.5d",
        "1e3s",
        "7w",
        "7D",
        "7d ",
        " 7d",
        "7  d",
        "7d\n",
        "٧d",
        "P7D",
    ],
)
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="write a whole number and s, m, h or d, such as 7d"):
        parse_duration(text)


@pytest.mark.parametrize("number", ["36501", "999999999", "9" * 20, "9" * 5000])
def test_a_duration_that_leaves_the_calendar_is_refused_in_few_words(number):
    with pytest.raises(ValueError, match="is longer than 36500d") as refused:
        parse_duration(f"{number}d")
    assert len(str(refused.value)) < 100


@pytest.mark.parametrize(
    ("text", "shortest"),
    [("0d", "0s"), ("60s", "1m"), ("90s", "90s"), ("3600s", "1h"), ("48h", "2d"), ("25h", "25h")],
)
def test_a_duration_is_written_with_the_largest_unit_that_fits(text, shortest):
    assert format_duration(parse_duration(text)) == shortest


@given(st.integers(0, 36_500 * 86_400).map(lambda seconds: timedelta(seconds=seconds)))
def test_what_is_written_is_read_back(duration):
    written = format_duration(duration)
    assert parse_duration(written) == duration
    assert re.fullmatch(PATTERN, written)

"""Durations as people write them in recipes and dbt meta: `90s`, `30m`, `12h`, `7d`."""

import re
from datetime import timedelta

from runner.errors import RunnerError
from runner.wording import show

PATTERN = "^[0-9]+ ?[smhd]$"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
# Any longer, and subtracting a duration from a timestamp might leave the calendar.
_LONGEST = timedelta(days=36_500)


def parse_duration(text: str) -> timedelta:
    """Return the duration that `text` (`90s`, `30m`, `12h`, `7d`) names.

    Raises
    ------
    ValueError
        If `text` is anything else, or names more than 36500d; the message says what is expected.
    """
    if re.fullmatch(PATTERN, text) is None:
        raise ValueError(
            f"{show(text)} is not a duration; write a whole number and s, m, h or d, such as 7d"
        )
    try:
        duration = timedelta(**{_UNITS[text[-1]]: int(text[:-1])})
    except (OverflowError, ValueError):  # beyond a timedelta, or beyond what int() reads
        duration = timedelta.max
    if duration > _LONGEST:
        raise ValueError(f"{show(text)} is longer than {format_duration(_LONGEST)}")
    return duration


def option_duration(option: str, text: str, example: str) -> timedelta:
    """Return the duration that a command's option names.

    Parameters
    ----------
    option, example
        Such as `--keep` and `90d`, for the error.

    Raises
    ------
    RunnerError
        If it names none.
    """
    try:
        return parse_duration(text)
    except ValueError as err:
        raise RunnerError(
            f"{option} {err}", hint=f"write a duration, such as {option} {example}"
        ) from err


def format_duration(duration: timedelta) -> str:
    """Return the shortest text that `parse_duration` reads back as `duration` (whole seconds)."""
    seconds = int(duration.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"

"""Days between two instants, and parts of an instant on the clock of a time zone.

Instants are cut to their whole second, which is all that Feast's online format holds: else the
online value would differ from the one trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

DAY_SECONDS = 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


class UnknownZoneError(ValueError):
    """There is no such time zone."""


@cache
def zone_names() -> tuple[str, ...]:
    """Return the time zones that there are, such as `Europe/Berlin`."""
    return tuple(files("tzdata").joinpath("zones").read_text().split())


@cache
def load_zone(name: str) -> ZoneInfo:
    """Return a time zone of the package `tzdata`, whatever the machine's own database says.

    Training and serving must agree, and a small image has no database.

    Raises
    ------
    UnknownZoneError
        If there is none of that name.
    """
    if name not in zone_names():
        raise UnknownZoneError(f"there is no time zone {name!r}")
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def days_between(later: datetime, earlier: datetime) -> float:
    """Return the days from `earlier` to `later`, negative if it comes after it."""
    return (whole_seconds(later) - whole_seconds(earlier)) / DAY_SECONDS


def whole_seconds(instant: datetime) -> int:
    """Return an instant with its zone as Unix seconds, rounded down."""
    return (instant - _EPOCH) // _SECOND


PARTS: Mapping[str, Callable[[datetime], int]] = {
    "hour": lambda local: local.hour,
    "weekday": lambda local: local.isoweekday(),
}
"""Parts of an instant on the clock of a zone: the hour from 0, the weekday from Monday, 1."""


def calendar_part(part: str, zone: str) -> Callable[[datetime], float]:
    """Return what gives the part of an instant in the zone."""
    read, clock = PARTS[part], load_zone(zone)
    return lambda instant: float(read(instant.astimezone(clock)))

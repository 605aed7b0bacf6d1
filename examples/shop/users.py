"""The shop's users: a log of slowly changing profiles, with late rows and corrections."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from examples.shop.arrival import DAY, HOUR, Ints, arrive
from examples.shop.process import COUNTRIES, DEVICES

Objects = npt.NDArray[np.object_]

_CHANNELS = ("organic", "search", "social", "referral")
_COUNTRY_SHARES = (0.34, 0.2, 0.12, 0.12, 0.12, 0.1)
_DEVICE_SHARES = (0.58, 0.34, 0.08)
# Of all users, this many were there before the data begin; the others sign up later.
_FOUNDING_SHARE = 0.75
_DAYS_BETWEEN_CHANGES = 100


@dataclass(frozen=True)
class Profiles:
    """The log of profile changes, one entry per row, ordered by user and then by arrival.

    Times are whole seconds from the first midnight of the data; negative ones lie before it.
    A missing age is -1, other missing values are None.
    """

    user_id: Ints
    age: Ints
    country: Objects
    device: Objects
    channel: Objects
    is_subscriber: npt.NDArray[np.bool_]
    updated_at: Ints
    loaded_at: Ints

    def take(self, rows: Ints) -> Profiles:
        """Return the log with these rows only."""
        return Profiles(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def draw_profiles(rng: np.random.Generator, users: int, days: int) -> Profiles:
    """Return every profile change of `users` users (ids 1…) in `days` days."""
    signed_up_at = np.where(
        rng.random(users) < _FOUNDING_SHARE,
        -rng.integers(1, 720 * DAY, users),
        rng.integers(0, days * DAY, users),
    )
    first = _first_profiles(rng, signed_up_at)
    changed = _changes(rng, first, days)
    corrected = _corrections(rng, first, changed)
    log = _concatenate([first, changed, corrected])
    return log.take(np.lexsort((log.updated_at, log.loaded_at, log.user_id)))


def visible_rows(log: Profiles, users: Ints, at: Ints) -> Ints:
    """Return, for each user at each time, the row of `log` that was known to hold, or -1.

    The newest `updated_at` among the rows loaded by then; of a corrected one the latest
    correction.
    """
    # Rows are ordered by user. Spread the users so far apart on one time line that a running
    # maximum, or a search, over all of it stays within each user.
    latest = max(times.max(initial=0) for times in (log.loaded_at, log.updated_at, at))
    span = latest - log.updated_at.min() + DAY
    newest = log.user_id * span + log.updated_at
    rows = np.arange(len(newest))
    best = np.maximum.accumulate(np.where(newest >= np.maximum.accumulate(newest), rows, 0))
    last = np.searchsorted(log.user_id * span + log.loaded_at, users * span + at, side="right") - 1
    known = (last >= 0) & (log.user_id[last] == users)
    return np.where(known, best[last], -1)


def _first_profiles(rng: np.random.Generator, signed_up_at: Ints) -> Profiles:
    count = len(signed_up_at)
    age = np.clip(np.round(rng.normal(39, 13, count)), 18, 85).astype(np.int64)
    loaded_at = arrive(rng, signed_up_at)
    return Profiles(
        user_id=np.arange(1, count + 1),
        age=np.where(rng.random(count) < 0.08, -1, age),
        country=_choice(rng, tuple(COUNTRIES), _COUNTRY_SHARES, count, missing=0.03),
        device=_choice(rng, tuple(DEVICES), _DEVICE_SHARES, count, missing=0.03),
        channel=_choice(rng, _CHANNELS, (0.4, 0.3, 0.2, 0.1), count, missing=0.05),
        is_subscriber=rng.random(count) < 0.25,
        updated_at=signed_up_at,
        # Those who were there before are in the first load.
        loaded_at=np.where(signed_up_at < 0, 0, loaded_at),
    )


def _changes(rng: np.random.Generator, first: Profiles, days: int) -> Profiles:
    """Return later states: each change redraws the device and one other attribute."""
    begin = np.maximum(first.updated_at, 0)
    counts = rng.poisson((days * DAY - begin) / DAY / _DAYS_BETWEEN_CHANGES)
    row = np.repeat(np.arange(len(begin)), counts)
    count = len(row)
    updated_at = begin[row] + (rng.random(count) * (days * DAY - begin[row])).astype(np.int64)
    # A form sent twice: two changes in the same second; the log's order decides.
    twice = rng.random(count) < 0.02
    row, updated_at = np.r_[row, row[twice]], np.r_[updated_at, updated_at[twice]]
    order = np.lexsort((updated_at, row))
    state = first.take(row[order])
    kind = rng.integers(0, 3, len(row))
    return Profiles(
        user_id=state.user_id,
        age=np.where((kind == 0) & (state.age > 0), state.age + 1, state.age),
        country=np.where(
            kind == 1,
            _choice(rng, tuple(COUNTRIES), _COUNTRY_SHARES, len(row), missing=0.0),
            state.country,
        ),
        device=_choice(rng, tuple(DEVICES), _DEVICE_SHARES, len(row), missing=0.01),
        channel=state.channel,
        is_subscriber=np.where(kind == 2, ~state.is_subscriber, state.is_subscriber),
        updated_at=updated_at[order],
        loaded_at=np.maximum(
            arrive(rng, updated_at[order], hours_late=0.1, days_late=0.05), state.loaded_at
        ),
    )


def _corrections(rng: np.random.Generator, first: Profiles, changed: Profiles) -> Profiles:
    """Return rows that correct an earlier one: the same `updated_at`, loaded later."""
    log = _concatenate([first, changed])
    wrong = log.take(np.flatnonzero(rng.random(len(log.user_id)) < 0.1))
    count = len(wrong.user_id)
    age = np.clip(wrong.age + rng.integers(-6, 7, count), 18, 85)
    return Profiles(
        user_id=wrong.user_id,
        age=np.where(wrong.age < 0, rng.integers(18, 70, count), age),
        country=_choice(rng, tuple(COUNTRIES), _COUNTRY_SHARES, count, missing=0.0),
        device=wrong.device,
        channel=wrong.channel,
        is_subscriber=wrong.is_subscriber,
        updated_at=wrong.updated_at,
        loaded_at=arrive(rng, wrong.loaded_at + rng.integers(HOUR, 20 * DAY, count)),
    )


def _concatenate(logs: list[Profiles]) -> Profiles:
    return Profiles(
        **{
            field.name: np.concatenate([getattr(log, field.name) for log in logs])
            for field in fields(Profiles)
        }
    )


def _choice(
    rng: np.random.Generator,
    values: tuple[str, ...],
    shares: tuple[float, ...],
    count: int,
    *,
    missing: float,
) -> Objects:
    drawn: Objects = rng.choice(np.array(values, dtype=object), size=count, p=shares)
    drawn[rng.random(count) < missing] = None
    return drawn

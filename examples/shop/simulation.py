"""The shop's life, day by day: views, carts, weekly recommendations, orders."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from examples.shop.arrival import DAY, HOUR, MINUTE, Ints, arrive
from examples.shop.ledger import Ledger
from examples.shop.process import CATEGORIES, Floats, purchase_probability
from examples.shop.users import Profiles, draw_profiles, visible_rows

FIRST_RECOMMENDATION_DAY = 14
RECOMMENDED_CATEGORIES = 2
# Orders arrive no later than this; dbt waits as long before it calls a label known.
LATEST_ORDER = 3 * DAY

_VIEWS_PER_DAY = 0.22
_WEEKDAYS = np.array([0.9, 0.88, 0.92, 1.0, 1.08, 1.22, 1.0])
_NO_CATEGORY = -1

_T = TypeVar("_T", "Events", "Orders", "Recommendations")


@dataclass(frozen=True)
class Events:
    """Views and carts; times in seconds from the first midnight; category -1 is none."""

    user: Ints
    category: Ints
    is_cart: npt.NDArray[np.bool_]
    occurred_at: Ints
    loaded_at: Ints


@dataclass(frozen=True)
class Orders:
    """Every version of every order, oldest first; status 0 placed, 1 completed, 2 cancelled."""

    order: Ints
    user: Ints
    category: Ints
    amount_cents: Ints
    status: Ints
    ordered_at: Ints
    loaded_at: Ints


@dataclass(frozen=True)
class Recommendations:
    """What each weekly mail recommended, with the true probability of an order in 7 days."""

    user: Ints
    category: Ints
    recommended_at: Ints
    loaded_at: Ints
    probability: Floats


@dataclass(frozen=True)
class Shop:
    """Everything that happened in `days` days."""

    days: int
    profiles: Profiles
    events: Events
    orders: Orders
    recommendations: Recommendations


def simulate(users: int, days: int, seed: int) -> Shop:
    """Return the life of a shop of `users` users over `days` days; the same for the same `seed`."""
    return _Simulation(users, days, np.random.default_rng([seed, users, days])).run()


class _Simulation:
    """The shop's state while its days pass. Users and categories are counted from 0 here."""

    def __init__(self, users: int, days: int, rng: np.random.Generator) -> None:
        categories = len(CATEGORIES)
        self.users, self.days, self.rng = users, days, rng
        self.profiles = draw_profiles(rng, users, days)
        first = np.unique(self.profiles.user_id, return_index=True)[1]
        self.known_at = self.profiles.loaded_at[first]
        self.signed_up_at = np.full(users, days * DAY)
        np.minimum.at(self.signed_up_at, self.profiles.user_id - 1, self.profiles.updated_at)
        # Some users never do anything: they have a profile and no history.
        activity = rng.gamma(1.2, 1 / 1.2, users) * (rng.random(users) > 0.06)
        self.taste = activity[:, None] * rng.dirichlet(np.full(categories, 0.5), users)
        self.interest = np.zeros((users, categories), dtype=bool)
        # Each user's week begins at a weekday and a second of their own.
        self.week_begins = rng.integers(0, 7, users) * DAY + rng.integers(6 * HOUR, DAY, users)
        shape = (days, users, categories)
        self.views, self.carts, self.orders = Ledger(*shape), Ledger(*shape), Ledger(*shape)
        self.events: list[Events] = []
        self.order_versions: list[Orders] = []
        self.recommendations: list[Recommendations] = []
        self.order_count = 0

    def run(self) -> Shop:
        for day in range(self.days):
            for ledger in (self.views, self.carts, self.orders):
                ledger.turn(day)
            self._begin_weeks(day)
            self._browse(day)
        return Shop(
            self.days,
            self.profiles,
            _join(Events, self.events),
            _join(Orders, self.order_versions),
            _join(Recommendations, self.recommendations),
        )

    def _begin_weeks(self, day: int) -> None:
        """Draw the orders, and the recommendations, of the users whose week begins today."""
        user = np.flatnonzero(self.week_begins // DAY == day % 7)
        at = day * DAY + self.week_begins[user] % DAY
        row = visible_rows(self.profiles, user + 1, at)
        user, at, row = user[row >= 0], at[row >= 0], row[row >= 0]
        probability = self._probability(day, user, row)
        self._order(day, user, at, probability)
        if day >= FIRST_RECOMMENDATION_DAY:
            self._recommend(day, user, at, probability)

    def _probability(self, day: int, user: Ints, row: Ints) -> Floats:
        """Return each user's probability of an order in each category, (n_users, n_categories)."""
        profile = self.profiles.take(row)
        orders_30d = self.orders.window(day, 30)[user]
        # The warehouse counts for users whose profile it has, and did so last at midnight.
        all_orders_30d = orders_30d.sum(axis=1) * (self.known_at[user] <= day * DAY)
        return purchase_probability(
            category_views_7d=self.views.window(day, 7)[user],
            category_views_30d=self.views.window(day, 30)[user],
            category_carts_7d=self.carts.window(day, 7)[user],
            category_orders_30d=orders_30d,
            user_orders_30d=all_orders_30d[:, None],
            age_years=np.where(profile.age < 0, np.nan, profile.age)[:, None],
            country=profile.country[:, None],
            device=profile.device[:, None],
            is_subscriber=profile.is_subscriber[:, None],
        )

    def _order(self, day: int, user: Ints, at: Ints, probability: Floats) -> None:
        rng = self.rng
        row, category = np.nonzero(rng.random(probability.shape) < probability)
        twice = np.flatnonzero(rng.random(len(row)) < 0.15)
        row, category = np.r_[row, row[twice]], np.r_[category, category[twice]]
        weekdays = np.roll(_WEEKDAYS, -(day % 7))
        offset = rng.choice(7, len(row), p=weekdays / weekdays.sum()) * DAY
        ordered_at = at[row] + offset + rng.integers(0, DAY, len(row))
        prices = np.array(list(CATEGORIES.values()))[category]
        cents = np.round(100 * prices * rng.lognormal(-0.1, 0.45, len(row))).astype(np.int64)
        order = self.order_count + np.arange(1, len(row) + 1)
        self.order_count += len(row)
        first = Orders(
            order=order,
            user=user[row],
            category=category,
            amount_cents=cents,
            status=np.zeros(len(row), dtype=np.int64),
            ordered_at=ordered_at,
            loaded_at=arrive(rng, ordered_at, latest=LATEST_ORDER),
        )
        self.orders.add(first.user, category, ordered_at, first.loaded_at)
        self.order_versions += [first, *self._order_changes(first)]

    def _order_changes(self, placed: Orders) -> list[Orders]:
        """Return later versions of orders: completed or cancelled, then amounts corrected."""
        rng = self.rng
        kind = rng.random(len(placed.order))
        cancelled = _later(rng, placed, kind < 0.06, within=3 * DAY, status=2)
        self.orders.remove(
            cancelled.user, cancelled.category, cancelled.ordered_at, cancelled.loaded_at
        )
        # Some are completed in the very batch that brings them: two versions, one loaded_at.
        completed = _later(rng, placed, kind > 0.1, within=3 * DAY, status=1)
        corrected = _later(
            rng, completed, rng.random(len(completed.order)) < 0.05, within=10 * DAY, status=1
        )
        corrected.amount_cents[:] = corrected.amount_cents * 8 // 10
        return [cancelled, completed, corrected]

    def _recommend(self, day: int, user: Ints, at: Ints, probability: Floats) -> None:
        rng = self.rng
        appeal = np.log(0.2 + self.views.window(day, 30)[user])
        chosen = np.argsort(-(appeal + rng.gumbel(size=appeal.shape)), axis=1)
        category = chosen[:, :RECOMMENDED_CATEGORIES]
        recommended_at = np.repeat(at, RECOMMENDED_CATEGORIES)
        self.recommendations.append(
            Recommendations(
                user=np.repeat(user, RECOMMENDED_CATEGORIES),
                category=category.ravel(),
                recommended_at=recommended_at,
                loaded_at=arrive(rng, recommended_at, hours_late=0.0, days_late=0.0),
                probability=np.take_along_axis(probability, category, axis=1).ravel(),
            )
        )

    def _browse(self, day: int) -> None:
        """Draw the day's views and carts; an interest in a category comes and goes."""
        rng = self.rng
        begins = rng.random(self.interest.shape) < 0.04 * self.taste
        self.interest = (self.interest & (rng.random(self.interest.shape) > 0.12)) | begins
        season = (1 + 0.2 * np.sin(2 * np.pi * day / 365)) * _WEEKDAYS[day % 7]
        rate = season * (_VIEWS_PER_DAY * self.taste + 0.45 * self.interest)
        views = rng.poisson(rate)
        user, category = np.nonzero(views)
        count = views[user, category]
        user, category = np.repeat(user, count), np.repeat(category, count)
        at = day * DAY + rng.triangular(0, 20 * HOUR, DAY, len(user)).astype(np.int64)
        here = at >= self.signed_up_at[user]
        user, category, at = user[here], category[here], at[here]
        # A double click: two views in the same second.
        twice = rng.random(len(user)) < 0.01
        again = np.r_[np.arange(len(user)), np.flatnonzero(twice)]
        user, category, at = user[again], category[again], at[again]
        carted = rng.random(len(user)) < np.where(self.interest[user, category], 0.2, 0.08)
        pause = rng.integers(0, 20 * MINUTE, len(user)) * (rng.random(len(user)) > 0.2)
        self._see(self.carts, user[carted], category[carted], (at + pause)[carted], is_cart=True)
        homepage = rng.random(len(user)) < 0.04
        category = np.where(homepage, _NO_CATEGORY, category)
        self._see(self.views, user, category, at, is_cart=False)

    def _see(
        self, ledger: Ledger, user: Ints, category: Ints, occurred_at: Ints, *, is_cart: bool
    ) -> None:
        loaded_at = arrive(self.rng, occurred_at)
        shown = category != _NO_CATEGORY
        ledger.add(user[shown], category[shown], occurred_at[shown], loaded_at[shown])
        kind = np.full(len(user), is_cart)
        self.events.append(Events(user, category, kind, occurred_at, loaded_at))


def _later(
    rng: np.random.Generator,
    orders: Orders,
    chosen: npt.NDArray[np.bool_],
    *,
    within: int,
    status: int,
) -> Orders:
    """Return the chosen orders' next version, loaded up to `within` seconds later."""
    rows = np.flatnonzero(chosen)
    at_once = rng.random(len(rows)) < 0.05
    pause = np.where(at_once, 0, rng.integers(0, within, len(rows)))
    loaded_at = orders.loaded_at[rows]
    return Orders(
        order=orders.order[rows],
        user=orders.user[rows],
        category=orders.category[rows],
        amount_cents=orders.amount_cents[rows],
        status=np.full(len(rows), status),
        ordered_at=orders.ordered_at[rows],
        loaded_at=np.where(
            at_once, loaded_at, arrive(rng, loaded_at + pause, hours_late=0.0, days_late=0.0)
        ),
    )


def _join(kind: type[_T], parts: list[_T]) -> _T:
    """Return one column-wise concatenation of `parts`, all of the dataclass `kind`."""
    return kind(
        **{
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(kind)
        }
    )

"""The known process: how likely a user is to order in a category in the coming 7 days.

Each user's weeks begin at an hour of their own. At that moment the shop knows some things about
the user, and from these alone the coming week's orders are drawn. So, given everything knowable at
that moment, the label is a coin of known bias: no honest model ranks better than
`purchase_probability`, and a model that does has seen the future.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CATEGORIES: Mapping[str, float] = MappingProxyType(
    # name → usual price of an order in US dollars
    {
        "books": 18.0,
        "toys": 26.0,
        "garden": 42.0,
        "kitchen": 38.0,
        "sports": 55.0,
        "shoes": 64.0,
        "fashion": 48.0,
        "beauty": 29.0,
        "pets": 24.0,
        "office": 21.0,
        "music": 33.0,
        "electronics": 120.0,
    }
)
COUNTRIES: Mapping[str, float] = MappingProxyType(
    # name → log-odds beside the shop's average
    {"DE": 0.25, "FR": 0.0, "ES": -0.15, "IT": -0.1, "NL": 0.15, "PL": -0.35}
)
DEVICES: Mapping[str, float] = MappingProxyType({"mobile": -0.25, "desktop": 0.3, "tablet": 0.0})

_INTERCEPT = -4.5
_SUBSCRIBER = 0.45
_AGE_PEAK_YEARS = 38.0
_AGE_WIDTH_YEARS = 12.0
_AGE_HEIGHT = 0.8


def purchase_probability(
    *,
    category_views_7d: npt.ArrayLike,
    category_views_30d: npt.ArrayLike,
    category_carts_7d: npt.ArrayLike,
    category_orders_30d: npt.ArrayLike,
    user_orders_30d: npt.ArrayLike,
    age_years: npt.ArrayLike,
    country: npt.NDArray[Any],
    device: npt.NDArray[Any],
    is_subscriber: npt.ArrayLike,
) -> Floats:
    """Return the true probability of an order in the category within 7 days, shape (n_rows,).

    Parameters
    ----------
    category_views_7d, category_views_30d, category_carts_7d, category_orders_30d, user_orders_30d
        Counts as known at the last midnight (UTC); a missing count (NaN) is none.
    age_years, country, device, is_subscriber
        The user as known at that moment; missing (NaN, None) is an average user.
    """
    views_7d, views_30d, carts_7d, orders_30d, all_orders_30d = (
        np.log1p(np.nan_to_num(np.asarray(count, dtype=float)))
        for count in (
            category_views_7d,
            category_views_30d,
            category_carts_7d,
            category_orders_30d,
            user_orders_30d,
        )
    )
    # On a phone people put things into the cart only to look at them later.
    carts_weight = np.where(np.asarray(device) == "mobile", 0.9, 1.6)
    log_odds = (
        _INTERCEPT
        + 0.8 * views_7d
        + 0.3 * views_30d
        + carts_weight * carts_7d
        + 0.6 * orders_30d
        + 0.35 * all_orders_30d
        + _age_effect(np.asarray(age_years, dtype=float))
        + _effect(COUNTRIES, np.asarray(country))
        + _effect(DEVICES, np.asarray(device))
        + _SUBSCRIBER * np.nan_to_num(np.asarray(is_subscriber, dtype=float))
    )
    probability: Floats = 1.0 / (1.0 + np.exp(-log_odds))
    return probability


def _age_effect(age_years: Floats) -> Floats:
    bump = _AGE_HEIGHT * np.exp(-(((age_years - _AGE_PEAK_YEARS) / _AGE_WIDTH_YEARS) ** 2))
    effect: Floats = np.nan_to_num(bump, nan=_AGE_HEIGHT / 2)
    return effect


def _effect(effects: Mapping[str, float], values: npt.NDArray[Any]) -> Floats:
    total: Floats = np.zeros(values.shape)
    for value, effect in effects.items():
        total += effect * (values == value)
    return total

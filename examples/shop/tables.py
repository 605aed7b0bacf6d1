"""The shop's life as the raw tables a warehouse would receive, in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from examples.shop.arrival import DAY, Ints
from examples.shop.process import CATEGORIES
from examples.shop.simulation import Shop

# What `create table` says of each raw table; the columns stand in the order of the Arrow tables.
DDL: Mapping[str, str] = {
    "users": """
        change_seq bigint primary key,
        id bigint not null,
        age integer,
        country text,
        device text,
        channel text,
        is_subscriber boolean,
        updated_at timestamptz not null,
        loaded_at timestamptz not null
    """,
    "categories": """
        id bigint primary key,
        name text not null,
        loaded_at timestamptz not null
    """,
    "events": """
        id bigint primary key,
        user_id bigint not null,
        category_id bigint,
        event_type text not null,
        occurred_at timestamptz not null,
        loaded_at timestamptz not null
    """,
    "orders": """
        change_seq bigint primary key,
        id bigint not null,
        user_id bigint not null,
        category_id bigint not null,
        amount numeric(12, 2) not null,
        status text not null,
        ordered_at timestamptz not null,
        loaded_at timestamptz not null
    """,
    "recommendations": """
        id bigint primary key,
        user_id bigint not null,
        category_id bigint not null,
        recommended_at timestamptz not null,
        loaded_at timestamptz not null
    """,
}

_ORDER_STATUSES = np.array(["placed", "completed", "cancelled"], dtype=object)


def raw_tables(shop: Shop, end: datetime) -> dict[str, pa.Table]:
    """Return the raw tables by name, of what had arrived by `end`, the midnight of the last day."""
    clock = _Clock(end - timedelta(days=shop.days), shop.days)
    return {
        "users": _users(shop, clock),
        "categories": _categories(clock),
        "events": _events(shop, clock),
        "orders": _orders(shop, clock),
        "recommendations": _recommendations(shop, clock),
    }


class _Clock:
    """Turns seconds from the first midnight into timestamps; knows what arrived in time."""

    def __init__(self, start: datetime, days: int) -> None:
        self._start = int(start.astimezone(UTC).timestamp())
        self._days = days

    def timestamps(self, seconds: Ints) -> pa.Array:
        return pa.array((seconds + self._start) * 1_000_000).cast(pa.timestamp("us", tz="UTC"))

    def arrived(self, loaded_at: Ints) -> Ints:
        """Return the rows that had arrived by the end, in order of arrival."""
        order = np.argsort(loaded_at, kind="stable")
        return order[loaded_at[order] <= self._days * DAY]


def _users(shop: Shop, clock: _Clock) -> pa.Table:
    rows = clock.arrived(shop.profiles.loaded_at)
    log = shop.profiles.take(rows)
    return pa.table(
        {
            "change_seq": _ids(rows),
            "id": log.user_id,
            "age": pa.array(log.age, mask=log.age < 0),
            "country": pa.array(log.country, type=pa.string()),
            "device": pa.array(log.device, type=pa.string()),
            "channel": pa.array(log.channel, type=pa.string()),
            "is_subscriber": log.is_subscriber,
            "updated_at": clock.timestamps(log.updated_at),
            "loaded_at": clock.timestamps(log.loaded_at),
        }
    )


def _categories(clock: _Clock) -> pa.Table:
    ids = np.arange(1, len(CATEGORIES) + 1)
    return pa.table(
        {
            "id": ids,
            "name": list(CATEGORIES),
            "loaded_at": clock.timestamps(np.zeros_like(ids)),
        }
    )


def _events(shop: Shop, clock: _Clock) -> pa.Table:
    events = shop.events
    rows = clock.arrived(events.loaded_at)
    category = events.category[rows]
    return pa.table(
        {
            "id": _ids(rows),
            "user_id": events.user[rows] + 1,
            "category_id": pa.array(category + 1, mask=category < 0),
            "event_type": np.where(events.is_cart[rows], "cart", "view"),
            "occurred_at": clock.timestamps(events.occurred_at[rows]),
            "loaded_at": clock.timestamps(events.loaded_at[rows]),
        }
    )


def _orders(shop: Shop, clock: _Clock) -> pa.Table:
    orders = shop.orders
    rows = clock.arrived(orders.loaded_at)
    return pa.table(
        {
            "change_seq": _ids(rows),
            "id": orders.order[rows],
            "user_id": orders.user[rows] + 1,
            "category_id": orders.category[rows] + 1,
            "amount": pa.array(orders.amount_cents[rows] / 100).cast(pa.float64()),
            "status": pa.array(_ORDER_STATUSES[orders.status[rows]], type=pa.string()),
            "ordered_at": clock.timestamps(orders.ordered_at[rows]),
            "loaded_at": clock.timestamps(orders.loaded_at[rows]),
        }
    )


def _recommendations(shop: Shop, clock: _Clock) -> pa.Table:
    sent = shop.recommendations
    rows = clock.arrived(sent.loaded_at)
    return pa.table(
        {
            "id": _ids(rows),
            "user_id": sent.user[rows] + 1,
            "category_id": sent.category[rows] + 1,
            "recommended_at": clock.timestamps(sent.recommended_at[rows]),
            "loaded_at": clock.timestamps(sent.loaded_at[rows]),
        }
    )


def _ids(rows: Ints) -> npt.NDArray[np.int64]:
    return np.arange(1, len(rows) + 1, dtype=np.int64)

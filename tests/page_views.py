"""Page views of the shop's web site as `runner collect` leaves them, for either warehouse."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import psycopg
import pyarrow as pa

_INSTANT = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    {
        "view_id": pa.string(),
        "user_id": pa.int64(),
        "category_id": pa.int64(),
        "viewed_at": _INSTANT,
        "received_at": _INSTANT,
        "collected_at": _INSTANT,
    }
)


def page_views(users: int, until: datetime) -> pa.Table:
    """Return views of the 12 hours before `until`, ten a user.

    Some are collected hours after others that were received later, and of some two were received
    at one instant. Each user's last view is minutes before `until`, and collected at once.
    """
    draw, rows = random.Random(7), []
    for user in range(1, users + 1):
        for number in range(10):
            minutes = draw.choice([number % 3, 120 + 4 * number, 720 - number]) if number else 0
            received = until - timedelta(minutes=5 + minutes, microseconds=user)
            late = draw.choice([0.001, 0.01, 0.2, 3.0]) if number else 0.001
            rows.append(
                {
                    "view_id": f"{user}/{number}",
                    "user_id": user,
                    "received_at": received,
                    "collected_at": min(received + timedelta(hours=late), until),
                }
            )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def insert(connection: psycopg.Connection, views: pa.Table) -> None:
    """Write views into PostgreSQL's raw table, which must not be there."""
    connection.execute(
        "create table raw_data.page_views (view_id text primary key, user_id bigint, "
        "category_id bigint, viewed_at timestamptz, received_at timestamptz not null, "
        "collected_at timestamptz not null)"
    )
    with (
        connection.cursor() as cursor,
        cursor.copy("copy raw_data.page_views from stdin") as copy,
    ):
        for row in views.to_pylist():
            copy.write_row(list(row.values()))

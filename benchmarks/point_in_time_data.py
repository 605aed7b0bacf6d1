"""The data of the point-in-time benchmark, made in SQL, and the Feast objects over it.

Two views with ten features each over half of the feature rows each: `user_activity` (key user_id,
bitemporal) and `user_category` (keys user_id and category_id). Both have a unique index on
(join keys, event timestamp …), so no two rows are equally new and stock Feast is right here.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from feast import Entity, FeatureStore, FeatureView, Field, RepoConfig
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)
from feast.types import Bool, Float64, Int64, String
from feast.value_type import ValueType

DAYS = 70
CATEGORIES = 5
SPINE = "select row_id, user_id, category_id, event_timestamp, label from bench.spine"
STORES = {
    "stock": "postgres",
    "ours": "runner.warehouse.postgres.offline_store.PointInTimePostgreSQLOfflineStore",
}

_FEATURES = """
    (u.user_id % 97 + d.day)::bigint as {0}1,
    (u.user_id * 7919 % 1000003)::bigint as {0}2,
    nullif((u.user_id + d.day) % 11, 0)::bigint as {0}3,
    random() as {0}4, random() as {0}5, random() as {0}6, random() as {0}7,
    case when random() > 0.1 then random() end as {0}8,
    (array['web', 'app', 'store'])[1 + (u.user_id + d.day) % 3] as {0}9,
    (u.user_id + d.day) % 2 = 0 as {0}10
"""
_TABLES = """
create schema if not exists bench;
drop table if exists bench.user_activity, bench.user_category, bench.spine;
create table bench.user_activity as
select
    u.user_id::bigint as user_id,
    timestamptz '2024-01-01+00' + d.day * interval '86400 seconds'
        + (u.user_id * 7919 + d.day * 104729) % 86400 * interval '1 second' as event_timestamp,
    timestamptz '2024-01-01+00' + d.day * interval '86400 seconds'
        + ((u.user_id * 7919 + d.day * 104729) % 86400 + 3600) * interval '1 second' as created_at,
    {a}
from generate_series(1, {days}) as d (day)
cross join generate_series(1, {users}) as u (user_id);
create table bench.user_category as
select
    u.user_id::bigint as user_id,
    c.category_id::bigint as category_id,
    timestamptz '2024-01-01+00' + d.day * {categories} * interval '86400 seconds'
        + (u.user_id * 6101 + d.day * 7) % 86400 * interval '1 second' as event_timestamp,
    {c}
from generate_series(1, {days} / {categories}) as d (day)
cross join generate_series(1, {users}) as u (user_id)
cross join generate_series(1, {categories}) as c (category_id);
create table bench.spine as
select
    row_id,
    1 + floor(random() * {users})::bigint as user_id,
    1 + floor(random() * {categories})::bigint as category_id,
    timestamptz '2024-01-01+00' + random() * {days} * interval '86400 seconds' as event_timestamp,
    random() < 0.2 as label
from generate_series(1, {rows}) as row_id;
create unique index on bench.user_activity (user_id, event_timestamp, created_at);
create unique index on bench.user_category (user_id, category_id, event_timestamp);
"""


@dataclass(frozen=True)
class Size:
    """How many spine rows and users; a user has 140 feature rows."""

    name: str
    rows: int
    users: int

    @property
    def feature_rows(self) -> int:
        """Rows of both feature tables."""
        return self.users * DAYS * 2


SIZES = {
    size.name: size
    for size in (
        Size("10k", 10_000, 1_000),
        Size("100k", 100_000, 10_000),
        Size("1m", 1_000_000, 50_000),
        Size("3m", 3_000_000, 50_000),
        Size("10m", 10_000_000, 50_000),
    )
}


def generate(dsn: str, size: Size) -> None:
    """Create the tables again; day by day, as a mart that is appended to is laid out."""
    statements = _TABLES.format(
        a=_FEATURES.format("a"),
        c=_FEATURES.format("c"),
        days=DAYS,
        categories=CATEGORIES,
        users=size.users,
        rows=size.rows,
    )
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("select setseed(0.42)")
        for statement in statements.split(";\n"):
            if statement.strip():
                connection.execute(statement)
        for table in ("user_activity", "user_category", "spine"):
            connection.execute(f"vacuum analyze bench.{table}")


def store(dsn: str, kind: str, *, indexed: bool = True, ttl: timedelta) -> FeatureStore:
    """Return a Feast store with `kind`'s join; `indexed=False` hides the indexes behind queries."""
    folder = Path(tempfile.mkdtemp(prefix="bench-feast-"))
    atexit.register(shutil.rmtree, folder)
    options = psycopg.conninfo.conninfo_to_dict(dsn)
    options["database"] = options.pop("dbname")
    config = RepoConfig(
        project="bench",
        provider="local",
        registry=str(folder / "registry.db"),
        entity_key_serialization_version=3,
        online_store={"type": "sqlite", "path": str(folder / "online.db")},
        offline_store={"type": STORES[kind], "sslmode": "disable", **options},
    )
    feast_store = FeatureStore(config=config)
    feast_store.apply(_objects(indexed, ttl))
    return feast_store


def feature_references() -> list[str]:
    """Return Feast's references to the twenty features."""
    views = (("user_activity", "a"), ("user_category", "c"))
    return [f"{view}:{letter}{n}" for view, letter in views for n in range(1, 11)]


def _objects(indexed: bool, ttl: timedelta) -> list[Any]:
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
    category = Entity(name="category", join_keys=["category_id"], value_type=ValueType.INT64)
    views = []
    for name, letter, entities, created in (
        ("user_activity", "a", [user], "created_at"),
        ("user_category", "c", [user, category], ""),
    ):
        types = [Int64] * 3 + [Float64] * 5 + [String, Bool]
        where = {"table": f"bench.{name}"} if indexed else {"query": f"select * from bench.{name}"}
        views.append(
            FeatureView(
                name=name,
                entities=entities,
                ttl=ttl,
                schema=[
                    *(Field(name=entity.join_key, dtype=Int64) for entity in entities),
                    *(Field(name=f"{letter}{n}", dtype=t) for n, t in enumerate(types, start=1)),
                ],
                source=PostgreSQLSource(
                    name=name,
                    timestamp_field="event_timestamp",
                    created_timestamp_column=created,
                    **where,
                ),
            )
        )
    return [user, category, *views]

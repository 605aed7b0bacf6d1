"""A project whose model computes columns: days since times, the clock, and derived values.

Small enough to be built on either target; `shoppers` and `baskets` are its raw tables. `expected`
says what is computed, in plain Python.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from tests.small_project import write_other_project

START = datetime(2026, 3, 1, tzinfo=UTC)  # the clocks of Berlin change on the 29th
USERS, DAYS, BASKETS = 20, 40, 600
COMPUTED = (
    *("user_habits__days_since_last_order_at", "days_since_opened_at"),
    *("asked_at_hour", "asked_at_weekday"),
    *("basket_vs_usual", "is_evening", "mood"),
)
_TIMES = "\"{{ 'timestamptz' if target.type == 'postgres' else 'timestamp' }}\""
_FILES = {
    "models/staging/sources.yml": """
sources:
  - name: shop
    schema: "{{ 'raw_events' if target.type == 'bigquery' else 'raw_data' }}"
    tables: [{name: shoppers}, {name: baskets}]
""",
    "models/feature_mart/user_habits.sql": """
select user_id, event_timestamp, mean_usd, orders, last_order_at, country
from {{ source('shop', 'shoppers') }}
""",
    "models/feature_mart/user_habits.yml": f"""
models:
  - name: user_habits
    description: One row per user and day.
    config: {{materialized: table, meta: {{entities: {{user: user_id}}, ttl: 3650d}}}}
    columns:
      - {{name: user_id, data_type: bigint, description: The user.}}
      - {{name: event_timestamp, data_type: {_TIMES}, description: When it was known.}}
      - {{name: mean_usd, data_type: float, description: Mean value of an order.}}
      - {{name: orders, data_type: bigint, description: Orders so far.}}
      - {{name: last_order_at, data_type: {_TIMES}, description: When the last order was placed.}}
      - {{name: country, data_type: string, description: Where.}}
""",
    "models/spine_data/spine_basket.sql": """
select user_id, event_timestamp, basket_usd, opened_at, is_bought
from {{ source('shop', 'baskets') }}
""",
    "models/spine_data/spine_basket.yml": f"""
models:
  - name: spine_basket
    description: One row per basket.
    config: {{meta: {{entities: {{user: user_id}}, labels: {{is_bought: 1d}}}}}}
    columns:
      - {{name: user_id, data_type: bigint, description: The user.}}
      - {{name: event_timestamp, data_type: {_TIMES}, description: When.}}
      - {{name: basket_usd, data_type: float, description: Value of the basket.}}
      - {{name: opened_at, data_type: {_TIMES}, description: When it was opened.}}
      - {{name: is_bought, data_type: boolean, description: Whether it is bought.}}
""",
    "recipes/basket.yaml": """
registered_model_name: basket
experiment_name: basket
task: classification
spine: spine_basket
label: is_bought
request: [basket_usd, opened_at]
features: ["user_habits:*"]
asked_at: [hour, weekday]
time_zone: Europe/Berlin
derived:
  basket_vs_usual: basket_usd / nullif(mean_usd, 0)
  is_evening: asked_at_hour >= 18
  mood: >
    case when is_evening and user_habits.country in ('DE', 'NL') then 'evening'
    when days_since_last_order_at > 30 then 'gone' else 'day' end
split: {test: 10d, embargo: 1d}
preprocessing: {categorical: {min_frequency: 1}}
estimator:
  class_path: sklearn.ensemble.RandomForestClassifier
  init_args: {n_estimators: 10, min_samples_leaf: 5, random_state: 0}
scoring: [roc_auc]
""",
}


def write_asked_project(folder: Path) -> Path:
    """Write the project into `folder`; return `folder`."""
    return write_other_project(folder, _FILES)


def users() -> pa.Table:
    """Return the habits of each user on each day; some are null, and times have microseconds."""
    rng = random.Random(1)
    rows = [
        {
            "user_id": user,
            "event_timestamp": START + timedelta(days=day),
            "mean_usd": rng.choice([None, 0.0, round(rng.uniform(1, 90), 2)]),
            "orders": 2**53 + day,
            "last_order_at": rng.choice(
                [None, START - timedelta(days=20 * rng.random(), microseconds=rng.randrange(10**6))]
            ),
            "country": rng.choice(["DE", "NL", "", None]),
        }
        for day in range(DAYS)
        for user in range(USERS)
    ]
    return pa.Table.from_pylist(rows)


def baskets() -> pa.Table:
    """Return baskets at any microsecond; some users are known to nobody."""
    rng = random.Random(2)
    rows = []
    for _ in range(BASKETS):
        asked = START + timedelta(microseconds=rng.randrange(DAYS * 86_400 * 10**6))
        value = rng.choice([None, round(rng.uniform(1, 200), 2)])
        opened = rng.choice([None, asked - timedelta(seconds=rng.randrange(-3, 9_000))])
        rows.append(
            {
                "user_id": rng.randrange(USERS + 2),
                "event_timestamp": asked,
                "basket_usd": value,
                "opened_at": opened,
                "is_bought": (value or 0) > 80 or rng.random() < 0.2,
            }
        )
    return pa.Table.from_pylist(rows)


def expected(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the computed columns of a row of features, request inputs and `event_timestamp`."""
    asked, habits = row["event_timestamp"], "user_habits__"
    local = asked.astimezone(ZoneInfo("Europe/Berlin"))
    mean, basket = row[f"{habits}mean_usd"], row["basket_usd"]
    since = _days(asked, row[f"{habits}last_order_at"])
    is_evening = local.hour >= 18
    mood = "gone" if since is not None and since > 30 else "day"
    values = (
        since,
        _days(asked, row["opened_at"]),
        float(local.hour),
        float(local.isoweekday()),
        basket / mean if mean and basket is not None else None,
        is_evening,
        "evening" if is_evening and row[f"{habits}country"] in {"DE", "NL"} else mood,
    )
    return dict(zip(COMPUTED, values, strict=True))


def requests(count: int) -> list[dict[str, Any]]:
    """Return the first baskets as rows of a prediction request."""
    return [
        {
            "user_id": row["user_id"],
            "basket_usd": row["basket_usd"],
            "opened_at": row["opened_at"] and row["opened_at"].isoformat(),
        }
        for row in baskets().slice(0, count).to_pylist()
    ]


def shown(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of an answer with `include_features`, times as such."""
    values = {name: feature["value"] for name, feature in answer["features"].items()}
    for name in ("user_habits__last_order_at", "opened_at"):
        values[name] = values[name] and datetime.fromisoformat(values[name])
    return values


def asked_at(answers: Sequence[Mapping[str, Any]]) -> datetime:
    """Return the instant, to the second, that the answers were computed for."""
    for values in map(shown, answers):
        if values["opened_at"] is not None:
            opened: datetime = values["opened_at"].replace(microsecond=0)
            return opened + timedelta(seconds=round(values["days_since_opened_at"] * 86_400))
    raise AssertionError("no basket has been opened")


def as_batch(sent: Sequence[Mapping[str, Any]], asked: datetime) -> pa.Table:
    """Return the rows of a request as a file for `runner predict`, at the instant `asked`."""
    return pa.Table.from_pylist(
        [
            {
                **row,
                "event_timestamp": asked,
                "opened_at": row["opened_at"] and datetime.fromisoformat(row["opened_at"]),
            }
            for row in sent
        ]
    )


def _days(later: datetime, earlier: datetime | None) -> float | None:
    if earlier is None:
        return None
    gap = later.replace(microsecond=0) - earlier.replace(microsecond=0)
    return gap / timedelta(days=1)

"""A project of payments between accounts: one feature mart in two roles, and request inputs.

Small enough to be built on either target; `payments` and `accounts` are its raw tables.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa

from tests.small_project import write_other_project

START = datetime(2026, 1, 1, tzinfo=UTC)
ACCOUNTS, DAYS, PAYMENTS = 25, 40, 600
CHANNELS = ("app", "web", "shop", None)
_TIMES = "\"{{ 'timestamptz' if target.type == 'postgres' else 'timestamp' }}\""
_FILES = {
    "models/staging/sources.yml": """
sources:
  - name: bank
    schema: "{{ 'raw_events' if target.type == 'bigquery' else 'raw_data' }}"
    tables: [{name: payments}, {name: accounts}]
""",
    "models/feature_mart/account_activity.sql": """
select account_id, event_timestamp, payments_7d, mean_usd, country
from {{ source('bank', 'accounts') }}
""",
    "models/feature_mart/account_activity.yml": f"""
models:
  - name: account_activity
    description: One row per account and day.
    config: {{materialized: table, meta: {{entities: {{account: account_id}}, ttl: 3650d}}}}
    columns:
      - {{name: account_id, data_type: bigint, description: The account.}}
      - {{name: event_timestamp, data_type: {_TIMES}, description: When it was known.}}
      - {{name: payments_7d, data_type: bigint, description: Payments of 7 days.}}
      - {{name: mean_usd, data_type: float, description: Their mean.}}
      - {{name: country, data_type: string, description: Where.}}
""",
    "models/spine_data/spine_payment.sql": """
select
    sender, receiver, event_timestamp, channel, is_gift, items, is_disputed,
    cast(amount_usd as {{ dbt.type_numeric() }}) as amount_usd
from {{ source('bank', 'payments') }}
""",
    "models/spine_data/spine_payment.yml": f"""
models:
  - name: spine_payment
    description: One row per payment.
    config:
      meta:
        entities: {{sender: account, receiver: account}}
        labels: {{is_disputed: 1d}}
    columns:
      - {{name: sender, data_type: bigint, description: Who pays.}}
      - {{name: receiver, data_type: bigint, description: Who is paid.}}
      - {{name: event_timestamp, data_type: {_TIMES}, description: When.}}
      - {{name: channel, data_type: string, description: Where it is asked for.}}
      - {{name: is_gift, data_type: boolean, description: Whether it is a gift.}}
      - {{name: items, data_type: bigint, description: How many goods it is for.}}
      - {{name: amount_usd, data_type: numeric, description: How much.}}
      - {{name: is_disputed, data_type: boolean, description: Whether it is disputed.}}
""",
    "models/spine_data/spine_quote.sql": """
select
    event_timestamp, channel, items, cast(amount_usd as {{ dbt.type_numeric() }}) as amount_usd
from {{ source('bank', 'payments') }}
""",
    "models/spine_data/spine_quote.yml": f"""
models:
  - name: spine_quote
    description: One row per quote; nobody has signed in yet.
    config: {{meta: {{entities: {{}}, labels: {{amount_usd: 1d}}}}}}
    columns:
      - {{name: event_timestamp, data_type: {_TIMES}, description: When.}}
      - {{name: channel, data_type: string, description: Where it is asked for.}}
      - {{name: items, data_type: bigint, description: How many goods it is for.}}
      - {{name: amount_usd, data_type: numeric, description: How much.}}
""",
    "recipes/dispute.yaml": """
registered_model_name: dispute
experiment_name: payments
task: classification
spine: spine_payment
label: is_disputed
request: [channel, is_gift, items, amount_usd]
features:
  - "account_activity[sender]:*"
  - "account_activity[receiver]:payments_7d"
  - "account_activity[receiver]:country"
split: {test: 10d, embargo: 1d}
estimator:
  class_path: sklearn.ensemble.RandomForestClassifier
  init_args: {n_estimators: 10, min_samples_leaf: 5, random_state: 0}
scoring: [roc_auc]
slices: [channel, "account_activity[receiver]:country"]
feature_overrides: ["account_activity[sender]:payments_7d"]
""",
    "recipes/quote.yaml": """
registered_model_name: quote
experiment_name: payments
task: regression
spine: spine_quote
label: amount_usd
request: [channel, items]
features: []
split: {test: 10d, embargo: 1d}
estimator:
  class_path: sklearn.linear_model.Ridge
scoring: [r2]
""",
}


def write_payments_project(folder: Path) -> Path:
    """Write the project into `folder`; return `folder`."""
    return write_other_project(folder, _FILES)


def accounts() -> pa.Table:
    """Return an account's activity day by day; one account has none, and some values are null."""
    rng = random.Random(1)
    rows = [
        {
            "account_id": account,
            "event_timestamp": START + timedelta(days=day, hours=account % 24),
            "payments_7d": None if rng.random() < 0.1 else rng.randrange(50),
            "mean_usd": None if rng.random() < 0.1 else rng.uniform(1, 500),
            "country": rng.choice(["NL", "BE", "FR", None]),
        }
        for account in range(1, ACCOUNTS)
        for day in range(DAYS)
    ]
    kinds = [pa.int64(), pa.timestamp("us", "UTC"), pa.int64(), pa.float64(), pa.string()]
    return pa.Table.from_pylist(rows, pa.schema(list(zip(rows[0], kinds, strict=True))))


def payments() -> pa.Table:
    """Return payments, whose dispute depends on sender, receiver and what the payer says."""
    rng = random.Random(2)
    rows = []
    for number in range(PAYMENTS):
        amount, channel = Decimal(rng.randrange(100, 90_000)) / 100, rng.choice(CHANNELS)
        rows.append(
            {
                "sender": rng.randrange(ACCOUNTS),
                "receiver": rng.randrange(ACCOUNTS),
                "event_timestamp": START + timedelta(days=number * DAYS / PAYMENTS),
                "channel": channel,
                "is_gift": rng.choice([True, False, None]),
                "items": rng.choice([1, 2, 3, None]),
                "amount_usd": amount,
                "is_disputed": (amount > 400) == (channel == "web") or rng.random() < 0.1,
            }
        )
    kinds = [pa.int64(), pa.int64(), pa.timestamp("us", "UTC"), pa.string(), pa.bool_()]
    kinds += [pa.int64(), pa.decimal128(12, 2), pa.bool_()]
    return pa.Table.from_pylist(rows, pa.schema(list(zip(rows[0], kinds, strict=True))))


def known_at(moment: datetime, account: int) -> dict[str, object]:
    """Return what was knowable of an account at a moment, read off the raw rows; {}: nothing."""
    known = [
        row
        for row in accounts().to_pylist()
        if row["account_id"] == account and row["event_timestamp"] <= moment
    ]
    return max(known, key=lambda row: row["event_timestamp"], default={})

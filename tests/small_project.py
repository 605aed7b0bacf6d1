"""A project of one raw table, one feature mart and one spine: quick to build on either target."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
START = datetime(2025, 1, 1, tzinfo=UTC)
USERS, DAYS = 20, 30

_FILES = {
    "dbt_project.yml": """
name: shop
version: "1.0.0"
profile: shop
model-paths: [models]
macro-paths: [macros]
on-run-start: "{{ create_feast_registry() }}"
models:
  shop:
    staging: {+schema: staging, +materialized: view}
    feature_mart:
      +schema: feature_mart
      +materialized: incremental
      +on_schema_change: fail
      +contract: {enforced: true}
    spine_data: {+schema: spine_data, +materialized: table, +contract: {enforced: true}}
""",
    "models/staging/sources.yml": """
sources:
  - name: shop
    schema: "{{ 'raw_events' if target.type == 'bigquery' else 'raw_data' }}"
    tables: [{name: readings}]
""",
    "models/staging/stg_readings.sql": """
select user_id, event_timestamp, amount, text from {{ source('shop', 'readings') }}
""",
    "models/feature_mart/reading.sql": """
{{ config(unique_key=['user_id', 'event_timestamp']) }}
select user_id, event_timestamp, amount from {{ ref('stg_readings') }}
{% if is_incremental() %}
where event_timestamp > (select max(built.event_timestamp) from {{ this }} as built)
{% endif %}
""",
    "models/feature_mart/reading.yml": """
models:
  - name: reading
    description: One row per user and day.
    config: {meta: {entities: {user: user_id}}}
    columns:
      - {name: user_id, data_type: bigint, description: The user., data_tests: [not_null]}
      - name: event_timestamp
        data_type: "{{ 'timestamptz' if target.type == 'postgres' else 'timestamp' }}"
        description: When it was read.
      - {name: amount, data_type: float, description: How much.}
""",
    "models/spine_data/spine_high.sql": """
select user_id, event_timestamp, amount > 0.5 as is_high from {{ ref('stg_readings') }}
""",
    "models/spine_data/spine_high.yml": """
models:
  - name: spine_high
    description: One row per user and day.
    config: {meta: {entities: {user: user_id}, labels: {is_high: 1d}}}
    columns:
      - {name: user_id, data_type: bigint, description: The user.}
      - name: event_timestamp
        data_type: "{{ 'timestamptz' if target.type == 'postgres' else 'timestamp' }}"
        description: When.
      - {name: is_high, data_type: boolean, description: Whether it was much.}
""",
    "recipes/small.yaml": """
registered_model_name: small
experiment_name: small
task: classification
spine: spine_high
label: is_high
features: ["reading:amount"]
split: {test: 7d, embargo: 1d}
estimator:
  class_path: sklearn.linear_model.LogisticRegression
scoring: [roc_auc]
gate: {roc_auc: 0.5}
""",
}


def write_project(folder: Path) -> Path:
    """Write the project into `folder`, with the repository's profiles; return `folder`."""
    for name, text in _FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in ("profiles", "feature_repo"):
        shutil.copytree(REPOSITORY / name, folder / name)
    (folder / "macros").mkdir()
    for name in ("generate_schema_name", "create_feast_registry", "wait_for_runner"):
        shutil.copy(REPOSITORY / "dbt_project" / "macros" / f"{name}.sql", folder / "macros")
    profile = yaml.safe_load((folder / "profiles" / "profiles.yml").read_text())
    # The emulator asks for no account; a failed query is not to be repeated.
    profile["shop"]["outputs"]["cloud"] |= {"method": "oauth-secrets", "token": "none"}
    profile["shop"]["outputs"]["cloud"]["job_retries"] = 0
    (folder / "profiles.yml").write_text(yaml.safe_dump(profile))
    return folder


def write_other_project(folder: Path, files: Mapping[str, str]) -> Path:
    """Write the project with other dbt models and recipes, `files` by path; return `folder`."""
    write_project(folder)
    for old in [*folder.glob("models/*/*"), *folder.glob("recipes/*")]:
        old.unlink()
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def readings() -> pa.Table:
    """Return the raw table: 600 rows of a user's reading on a day, each with 8 letters of text."""
    days = [(user, day) for day in range(DAYS) for user in range(USERS)]
    return pa.table(
        {
            "user_id": pa.array([user for user, _ in days], pa.int64()),
            "event_timestamp": pa.array(
                [START + timedelta(days=day) for _, day in days], pa.timestamp("us", tz="UTC")
            ),
            "amount": pa.array([(user * 7 + day * 3) % 10 / 10 for user, day in days]),
            "text": pa.array(["x" * 8 for _ in days]),
        }
    )

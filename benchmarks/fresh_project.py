"""The shop's project for `benchmarks.fresh`: servers of its own, and a mart that is pushed to."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from contract.redis_address import RedisAddress
from runner.servers import postgres_server, redis_server
from runner.settings import PostgresAddress, Settings, load_settings
from tests.conftest import copy_folder, free_port, postgres_env
from tests.serving_bundles import ENTITY_KEYS, manifest, redis_field, write_linear_bundle

RECIPE = "recipes/session.yaml"
SESSION, BASKET = "user_session__views_30m", "user_basket__value_usd"
"""The model's inputs: how many pages a user opened, and a value that is pushed."""
_ROOT = Path(__file__).resolve().parents[1]
_MODELS = "dbt_project/models"
_FILES = {
    RECIPE: """
registered_model_name: session
experiment_name: session
task: regression
spine: spine_user_spend
label: spend_7d_usd
features: ["user_session:*", "user_basket:*"]
split: {test: 28d, embargo: 10d}
estimator: {class_path: sklearn.linear_model.LinearRegression}
scoring: [r2]
""",
    f"{_MODELS}/staging/__baskets.yml": """
sources:
  - name: baskets
    schema: raw_data
    tables:
      - name: baskets_pushed
        config: {meta: {pushes: user_basket}}
        columns:
          - {name: user_id, data_type: bigint}
          - {name: event_timestamp, data_type: timestamptz}
          - {name: value_usd, data_type: float}
          - {name: received_at, data_type: timestamptz}
""",
    f"{_MODELS}/feature_mart/user_basket.sql": """
{% set key = ['user_id', 'event_timestamp', 'created_at'] %}
{{ config(
    materialized='incremental', unique_key=key, indexes=[{'columns': key, 'unique': true}]
) }}
select user_id, event_timestamp, received_at as created_at, value_usd
from ({{ collected('baskets', 'baskets_pushed') }}) as pushed
{% if is_incremental() %}
where received_at > (
    select coalesce(max(built.created_at), to_timestamp(0)) - interval '1 minute'
    from {{ this }} as built
)
{% endif %}
""",
    f"{_MODELS}/feature_mart/user_basket.yml": """
models:
  - name: user_basket
    description: One row per pushed value of a user's basket.
    config:
      meta: {entities: {user: user_id}, created_timestamp_column: created_at}
    columns:
      - {name: user_id, data_type: bigint, description: The user.}
      - {name: event_timestamp, data_type: timestamptz, description: When it was worth that.}
      - {name: created_at, data_type: timestamptz, description: When it was received.}
      - {name: value_usd, data_type: float, description: What it is worth.}
""",
}


@dataclass(frozen=True)
class SessionProject:
    """The project's settings, the bundle of a model that adds SESSION and BASKET, and servers."""

    settings: Settings
    bundle: Path
    servers: dict[str, psutil.Process]


@contextmanager
def session_project() -> Iterator[SessionProject]:
    """Give the project while its servers run."""
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # root's servers run as nobody
        postgres = PostgresAddress("127.0.0.1", free_port(), "runner", "runner", "postgres")
        redis = RedisAddress.from_url(f"redis://127.0.0.1:{free_port()}/0")
        root = _written(folder / "project")
        write_linear_bundle(folder / "bundle", **_content())
        try:
            postgres_server.start(postgres, folder / "postgres")
            redis_server.start(redis, folder / "redis")
            found = {
                "PostgreSQL": postgres_server.running(folder / "postgres"),
                "Redis": redis_server.running(folder / "redis"),
            }
            os.environ |= {
                **postgres_env(postgres),
                "REDIS_URL": redis.url,
            }
            servers = {name: process for name, process in found.items() if process}
            yield SessionProject(load_settings("local", root), folder / "bundle", servers)
        finally:
            redis_server.stop(folder / "redis")
            postgres_server.stop(folder / "postgres")


def _written(root: Path) -> Path:
    for name in ("dbt_project", "profiles", "feature_repo"):
        copy_folder(_ROOT / name, root / name)
    for name in ("dbt_project.yml", "profiles.yml"):
        shutil.copy(_ROOT / name, root / name, follow_symlinks=False)
    for path, text in _FILES.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(text)
    return root


def _content() -> dict[str, object]:
    [age, *_] = manifest()["features"]
    features = []
    for name, dtype in ((SESSION, "int64"), (BASKET, "float64")):
        view, _, feature = name.partition("__")
        field = redis_field(view, feature).hex()
        told = {"name": name, "view": view, "feature": feature, "dtype": dtype}
        features.append(age | told | {"redis_field": field, "description": "A benchmark's."})
    return {"task": "regression", "entity_keys": ENTITY_KEYS[:1], "features": features}

"""What a recipe computes on BigQuery is what plain Python computes, as on PostgreSQL."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from google.cloud import bigquery
from mlflow import MlflowClient

from runner.commands.training import train
from runner.settings import load_settings
from tests.asked_project import COMPUTED, baskets, expected, users, write_asked_project
from tests.cloud.bigquery_stores import load_arrow
from tests.emulators.bigquery import Emulator

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]


def test_training_rows_have_what_plain_python_computes(
    client: bigquery.Client, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_asked_project(tmp_path)
    client.create_dataset("raw_events", exists_ok=True)
    load_arrow(client, "raw_events.shoppers", users())
    load_arrow(client, "raw_events.baskets", baskets())
    for name, value in emulator.environment.items():
        monkeypatch.setitem(os.environ, name, value)
    for name, value in {
        "BIGQUERY_LOCATION": "US",
        "DBT_SCHEMA_PREFIX": "asked_",
        "FEAST_REGISTRY": str(root / "registry.db"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}",
        "REDIS_URL": "redis://127.0.0.1:1/0",
    }.items():
        monkeypatch.setitem(os.environ, name, value)
    settings = load_settings("cloud", root)
    run = MlflowClient(settings.mlflow_tracking_uri).get_run(
        train(settings, root / "recipes" / "basket.yaml").run_id
    )
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    rows = pq.read_table(folder / "dataset/training_rows.parquet").to_pylist()
    assert len(rows) == baskets().num_rows
    assert [{name: row[name] for name in COMPUTED} for row in rows] == list(map(expected, rows))

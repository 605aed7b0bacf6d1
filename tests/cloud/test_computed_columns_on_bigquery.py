"""On BigQuery a recipe computes what plain Python computes: in training, batch and HTTP."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.cloud import bigquery
from mlflow import MlflowClient

from contract.bundle_reader import read_bundle
from contract.redis_address import RedisAddress
from contract.scoring import load_model
from runner.commands.predictions.prediction import predict
from runner.commands.predictions.prediction_output import OutputFile
from runner.commands.training.training import train
from runner.online.audit import audit
from runner.online.materialize import materialize
from runner.project.manifest import load_manifest
from runner.recipes.recipe import load_recipe
from runner.settings import Settings, load_settings
from tests.asked_project import (
    COMPUTED,
    as_batch,
    asked_at,
    baskets,
    expected,
    requests,
    shown,
    users,
    write_asked_project,
)
from tests.cloud.bigquery_stores import load_arrow
from tests.emulators.bigquery import Emulator
from tests.serving_process import serving

MODEL = "models:/basket@champion"

pytestmark = [pytest.mark.cloud, pytest.mark.servers, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def settings(
    client: bigquery.Client,
    emulator: Emulator,
    redis_server: RedisAddress,
    tmp_path_factory: pytest.TempPathFactory,
) -> Settings:
    """The project, trained on BigQuery and materialized from there."""
    root = write_asked_project(tmp_path_factory.mktemp("asked"))
    client.create_dataset("raw_events", exists_ok=True)
    load_arrow(client, "raw_events.shoppers", users())
    load_arrow(client, "raw_events.baskets", baskets())
    os.environ.update(
        emulator.environment,
        BIGQUERY_LOCATION="US",
        DBT_SCHEMA_PREFIX="asked_",
        FEAST_REGISTRY=str(root / "registry.db"),
        MLFLOW_TRACKING_URI=f"sqlite:///{root / 'mlflow.db'}",
        REDIS_URL=redis_server.url,
    )
    settings = load_settings("cloud", root)
    train(settings, root / "recipes" / "basket.yaml")
    materialize(settings, list(load_manifest(settings.manifest_path).marts.values()))
    return settings


@pytest.fixture(autouse=True)
def _environment(settings: Settings) -> None:
    os.environ.update(settings.env)


@pytest.fixture(name="run_folder")
def _run_folder(settings: Settings) -> Path:
    client = MlflowClient(settings.mlflow_tracking_uri)
    run = client.get_run(client.get_model_version_by_alias("basket", "champion").run_id)
    return Path(run.info.artifact_uri.removeprefix("file://"))


def test_training_rows_have_what_plain_python_computes(run_folder: Path) -> None:
    rows = pq.read_table(run_folder / "dataset/training_rows.parquet").to_pylist()
    assert len(rows) == baskets().num_rows
    assert [{name: row[name] for name in COMPUTED} for row in rows] == list(map(expected, rows))


def test_a_batch_of_the_spine_is_scored_as_the_training_rows(
    settings: Settings, run_folder: Path
) -> None:
    output = settings.root / "spine.parquet"
    predict(settings, MODEL, "spine_basket", OutputFile(output))
    rows = pq.read_table(run_folder / "dataset/training_rows.parquet")
    bundle = read_bundle(run_folder / "serving_bundle")
    columns = {name: rows[name] for name in (*bundle.row_dtypes, "event_timestamp")}
    shares = load_model(bundle).score(columns).probabilities
    assert shares is not None
    order = [(name, "ascending") for name in ("event_timestamp", "user_id")]
    assert pq.read_table(output).sort_by(order)["probability_1"].to_pylist() == (
        rows.append_column("p", pa.array(shares[:, 1])).sort_by(order)["p"].to_pylist()
    )


def test_http_computes_what_a_batch_of_the_same_instant_does(settings: Settings) -> None:
    env = {"MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri}
    sent = requests(60)
    with (
        serving(MODEL, settings.redis.url, **env) as server,
        server.client() as client,
    ):
        request = {"entity_rows": sent, "include_features": True}
        answers = client.post("/predict", json=request).raise_for_status().json()["predictions"]
    asked = asked_at(answers)
    source, output = settings.root / "now.parquet", settings.root / "scored.parquet"
    pq.write_table(as_batch(sent, asked), source)
    predict(settings, MODEL, str(source), OutputFile(output))
    assert [answer["probabilities"]["1"] for answer in answers] == pytest.approx(
        pq.read_table(output)["probability_1"].to_pylist(), abs=1e-7
    )
    for values in map(shown, answers):
        computed = {name: values[name] for name in COMPUTED}
        assert expected(values | {"event_timestamp": asked}) == computed


def test_audit_finds_the_times_online_as_the_join_gives_them(settings: Settings) -> None:
    recipe = load_recipe(settings.root / "recipes" / "basket.yaml")
    audited = audit(settings, load_manifest(settings.manifest_path), recipe, entities=20)
    assert {each.feature.column for each in audited} >= {"user_habits__last_order_at"}
    assert all(each.compared and not each.has_skew for each in audited)

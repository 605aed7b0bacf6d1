"""Roles and request inputs on BigQuery: the same in training, batch, HTTP and audit."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.cloud import bigquery
from mlflow import MlflowClient

from contract.bundle import Bundle
from contract.bundle_reader import read_bundle
from contract.redis_address import RedisAddress
from contract.scoring import load_model
from runner.commands.predictions.prediction import predict
from runner.commands.predictions.prediction_output import OutputFile
from runner.commands.training.plan import plan
from runner.commands.training.training import train
from runner.online.audit import audit
from runner.online.materialize import materialize
from runner.project.manifest import load_manifest
from runner.recipes.recipe import load_recipe
from runner.settings import Settings, load_settings
from tests.cloud.bigquery_stores import load_arrow
from tests.emulators.bigquery import Emulator
from tests.payments_project import accounts, known_at, payments, write_payments_project
from tests.serving_process import serving

pytestmark = [pytest.mark.cloud, pytest.mark.servers, pytest.mark.timeout(900)]

KEYS = ("sender", "receiver")
INPUTS = ("channel", "is_gift", "items", "amount_usd")


@dataclass(frozen=True)
class Bank:
    """The payments project, trained on BigQuery and materialized from there."""

    root: Path
    settings: Settings
    bundle: Bundle
    rows: pa.Table

    def score(self, table: pa.Table) -> list[float]:
        """Return the probability of a dispute, for rows with all model inputs."""
        columns = {name: table[name] for name in self.bundle.row_dtypes}
        probabilities = load_model(self.bundle).score(columns).probabilities
        assert probabilities is not None
        return [float(share) for share in probabilities[:, 1]]


@pytest.fixture(scope="module")
def bank(
    client: bigquery.Client,
    emulator: Emulator,
    redis_server: RedisAddress,
    tmp_path_factory: pytest.TempPathFactory,
) -> Bank:
    root = write_payments_project(tmp_path_factory.mktemp("bank"))
    client.create_dataset("raw_events", exists_ok=True)
    load_arrow(client, "raw_events.accounts", accounts())
    paid = payments()
    at = paid.column_names.index("amount_usd")
    amounts = paid["amount_usd"].cast(pa.float64())
    load_arrow(client, "raw_events.payments", paid.set_column(at, "amount_usd", amounts))
    os.environ.update(
        emulator.environment,
        BIGQUERY_LOCATION="US",
        DBT_SCHEMA_PREFIX="bank_",
        FEAST_REGISTRY=str(root / "registry.db"),
        MLFLOW_TRACKING_URI=f"sqlite:///{root / 'mlflow.db'}",
        REDIS_URL=redis_server.url,
    )
    settings = load_settings("cloud", root)
    result = train(settings, root / "recipes" / "dispute.yaml")
    materialize(settings, list(load_manifest(settings.manifest_path).marts.values()))
    run = MlflowClient(settings.mlflow_tracking_uri).get_run(result.run_id)
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    rows = pq.read_table(folder / "dataset/training_rows.parquet")
    return Bank(root, settings, read_bundle(folder / "serving_bundle"), rows)


@pytest.fixture(autouse=True)
def _environment(bank: Bank) -> None:
    os.environ.update(bank.settings.env)


def test_each_role_has_the_values_of_its_own_account(bank: Bank) -> None:
    assert bank.rows.num_rows == len(payments())
    for row in bank.rows.slice(0, 60).to_pylist():
        sender, receiver = (known_at(row["event_timestamp"], row[key]) for key in KEYS)
        assert row["sender__payments_7d"] == sender.get("payments_7d")
        assert row["sender__mean_usd"] == sender.get("mean_usd")
        assert row["receiver__country"] == receiver.get("country")


def test_a_batch_of_the_spine_is_scored_as_the_training_rows(bank: Bank) -> None:
    output = bank.root / "spine.parquet"
    predict(bank.settings, "models:/dispute@champion", "spine_payment", OutputFile(output))
    order = [(name, "ascending") for name in ("event_timestamp", *KEYS)]
    expected = bank.rows.append_column("expected", [bank.score(bank.rows)]).sort_by(order)
    written = pq.read_table(output).sort_by(order)
    assert written["probability_1"].to_pylist() == expected["expected"].to_pylist()


def test_http_answers_what_a_batch_of_the_same_rows_does(bank: Bank) -> None:
    rows = [{name: row[name] for name in (*KEYS, *INPUTS)} for row in payments().to_pylist()[:60]]
    sent = [row | {"amount_usd": float(row["amount_usd"])} for row in rows]
    source, output = bank.root / "now.parquet", bank.root / "now_predicted.parquet"
    pq.write_table(pa.Table.from_pylist(sent), source)
    predict(bank.settings, "models:/dispute@champion", str(source), OutputFile(output))
    model, env = (
        "models:/dispute@champion",
        {"MLFLOW_TRACKING_URI": bank.settings.mlflow_tracking_uri},
    )
    with serving(model, bank.settings.redis.url, **env) as server, server.client() as client:
        answer = client.post("/predict", json={"entity_rows": sent}).raise_for_status().json()
    written = pq.read_table(output).to_pylist()
    for row, told in zip(written, answer["predictions"], strict=True):
        assert told["prediction"] == row["prediction"]
        assert told["probabilities"]["1"] == pytest.approx(row["probability_1"], abs=1e-6)
        assert ", ".join(told["missing_views"]) == (row["missing_views"] or "")


def test_audit_and_plan_know_the_roles(bank: Bank) -> None:
    recipe = bank.root / "recipes" / "dispute.yaml"
    manifest = load_manifest(bank.settings.manifest_path)
    audited = audit(bank.settings, manifest, load_recipe(recipe), entities=20)
    assert len(audited) == 3
    assert all(feature.compared and not feature.has_skew for feature in audited)
    [join] = [step for step in plan(bank.settings, recipe).steps if step.kind == "join"]
    assert not join.problem
    assert "receiver" in join.sql[0]


def test_a_spine_without_entities_is_trained_and_predicted(bank: Bank) -> None:
    train(bank.settings, bank.root / "recipes" / "quote.yaml")
    output = bank.root / "quotes.parquet"
    written = predict(bank.settings, "models:/quote@champion", "spine_quote", OutputFile(output))
    assert (written.rows, written.missing) == (len(payments()), {})

"""What MLflow holds when a training is recorded, and when recording it fails."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from runner import tracking
from runner.bundle import served_model
from runner.champion import NO_CHAMPION
from runner.errors import RunnerError
from runner.evaluation import evaluate
from runner.manifest import Manifest
from runner.pipeline import build_pipeline
from runner.run_record import Training
from runner.settings import Settings
from runner.split import split_by_time
from runner.training_data import Rows, TrainingData
from tests.modelling import FEATURES, MART, REGRESSOR, SPINE, feature_table, make_recipe, rows

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def training(tmp_path):
    """A finished training of a small forest, in a project outside git."""
    recipe = make_recipe(tmp_path / "recipe.yaml", more="gate: {roc_auc: 0.5}\n")
    X, y = rows()
    stamps = [START + timedelta(hours=i) for i in range(len(X))]
    table = feature_table()
    for name, column in (
        ("y", pa.array(y)),
        ("event_timestamp", pa.array(stamps, pa.timestamp("us", "UTC"))),
        ("user_id", pa.array(range(len(X)), pa.int64())),
    ):
        table = table.add_column(0, name, column)
    none = timedelta(0)
    split = split_by_time(
        table["event_timestamp"], test=timedelta(days=4), embargo=none, label_window=none
    )
    train, test = Rows(X[split.train], y[split.train]), Rows(X[split.test], y[split.test])
    pipeline = build_pipeline(recipe, train.X).fit(*train)
    env = {"MLFLOW_TRACKING_URI": "sqlite:///mlruns/mlflow.db"}
    return Training(
        settings=Settings("local", tmp_path, env),
        manifest=Manifest(tmp_path / "manifest.json", "shop", {"activity": MART}, {}, "0" * 64),
        recipe=recipe,
        feast_project="shop",
        spine=SPINE,
        features=FEATURES,
        data=TrainingData(table, train, test, split),
        pipeline=pipeline,
        evaluation=evaluate(recipe, pipeline, train, test),
        served=served_model(pipeline, test.X),
        comparison=NO_CHAMPION,
        started_at=datetime.now(UTC),
    )


@pytest.fixture
def client(training):
    return tracking.connect(training.settings)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "artifacts"
    path.mkdir()
    return path


def registered(client, training, folder):
    run_id, digest = tracking.record(client, training, folder)
    return run_id, tracking.register(client, run_id, digest, training)


def test_a_recorded_training_becomes_a_version_and_then_the_champion(client, training, folder):
    run_id, version = registered(client, training, folder)
    assert client.get_run(run_id).info.status == "FINISHED"
    assert client.get_run(run_id).data.tags["git_commit"] == "not a git checkout"
    assert client.get_registered_model("m").aliases == {}
    tracking.promote(client, "m", version)
    assert client.get_model_version_by_alias("m", "champion").run_id == run_id


def test_the_run_names_its_dataset(client, training, folder):
    run_id, _ = tracking.record(client, training, folder)
    [dataset] = client.get_run(run_id).inputs.dataset_inputs
    assert dataset.dataset.name == "spine_y"
    assert training.lineage["dataset_sha256"].startswith(dataset.dataset.digest)


def test_a_refused_version_says_why(client, training, folder):
    refused = dataclasses.replace(training.evaluation, refusals=("roc_auc is 0.4", "f1 is 0.1"))
    _, version = registered(client, dataclasses.replace(training, evaluation=refused), folder)
    tags = client.get_model_version("m", version).tags
    assert tags["gate"] == "refused"
    assert tags["gate_reason"] == "roc_auc is 0.4; f1 is 0.1"


def test_a_second_version_of_the_same_schema_is_welcome(client, training, folder, tmp_path):
    registered(client, training, folder)
    tracking.refuse_other_interface(client, training.recipe, SPINE)
    (tmp_path / "again").mkdir()
    assert registered(client, training, tmp_path / "again")[1] == "2"


def test_the_name_of_another_schema_is_refused(client, training, folder, tmp_path):
    registered(client, training, folder)
    other = make_recipe(tmp_path / "other.yaml", REGRESSOR, "r2", "regression")
    with pytest.raises(RunnerError, match="version 1 is classification of y by user_id int64"):
        tracking.refuse_other_interface(client, other, SPINE)


def test_a_run_that_cannot_be_written_is_failed_and_not_a_version(client, training, folder):
    folder.rmdir()
    with pytest.raises(FileNotFoundError):
        tracking.record(client, training, folder)
    assert statuses(client) == ["FAILED"]
    assert not client.search_registered_models()


def test_an_interrupted_run_is_killed_and_not_a_version(client, training, folder):
    class Interrupted:
        def get_params(self):
            raise KeyboardInterrupt

    pipeline = training.pipeline
    pipeline.steps[-1] = ("estimator", Interrupted())
    with pytest.raises(KeyboardInterrupt), tracking._ending(client, new_run(client)):
        _ = training.params
    assert statuses(client) == ["KILLED"]


def test_a_deleted_experiment_is_named_with_the_way_back(client, training, folder):
    tracking.record(client, training, folder)
    experiment = client.get_experiment_by_name("e")
    client.delete_experiment(experiment.experiment_id)
    with pytest.raises(RunnerError, match="'e' is deleted") as refused:
        tracking.record(client, training, folder)
    assert f"restore -x {experiment.experiment_id}" in refused.value.hint


def test_numbers_in_the_run_are_those_of_the_evaluation(client, training, folder):
    run_id, _ = tracking.record(client, training, folder)
    metrics = client.get_run(run_id).data.metrics
    assert metrics["test_roc_auc"] == training.evaluation.test["roc_auc"]
    assert metrics["n_train_rows"] + metrics["n_test_rows"] == 400


def new_run(client):
    return client.create_run(client.create_experiment("e")).info.run_id


def statuses(client):
    experiment = client.get_experiment_by_name("e")
    return [run.info.status for run in client.search_runs(experiment.experiment_id)]

"""What a run records of calibration, decision threshold and slices."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
from sklearn.metrics import log_loss

from contract.bundle_reader import read_bundle
from contract.scoring import load_model
from runner.commands.models.reproduction import _fit_again
from runner.commands.training.champion_comparison import compare_with_champion
from runner.modelling.contender import Contender
from runner.records import tracking
from runner.records.recorded_run import read_run
from tests.modelling import SPINE, make_recipe
from tests.recorded_trainings import bundle_of, moved
from tests.trainings import train

PROBABILITIES = """
calibration: {method: sigmoid, period: 2d}
decision_threshold: {maximize: f1, period: 2d}
slices: ["activity:country", "activity:is_member", user_id]
"""


@pytest.fixture(scope="module")
def finished_calibrated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated")
    recipe = make_recipe(folder / "calibrated.yaml", scoring="roc_auc, f1", more=PROBABILITIES)
    return train(folder, recipe)


@pytest.fixture
def calibrated(finished_calibrated, tmp_path):
    """A training with calibration, threshold and slices of the same model."""
    return moved(finished_calibrated, tmp_path)


def test_calibration_threshold_and_slices_are_recorded(client, calibrated, folder):
    run_id, digest = tracking.record(client, calibrated, folder)
    run = client.get_run(run_id)
    assert run.data.params["calibration.method"] == "sigmoid"
    assert run.data.params["decision_threshold.maximize"] == "f1"
    assert run.data.params["estimator.n_estimators"] == "5"
    metrics = run.data.metrics
    assert metrics["decision_threshold"] == calibrated.model.served.threshold
    assert (metrics["n_calibration_rows"], metrics["n_validation_rows"]) == (48, 48)
    rows = ("train", "calibration", "validation", "test", "embargoed")
    assert sum(metrics[f"n_{part}_rows"] for part in rows) == metrics["n_spine_rows"]
    artifacts = Path(run.info.artifact_uri.removeprefix("file://"))
    slices = json.loads((artifacts / "slices.json").read_text())["slices"]
    assert [each["value"] for each in slices if each["slice"] == "activity:is_member"] == [
        *("true", "(null)", "false")
    ]
    told = [each for each in slices if each["slice"] == "user_id"]
    assert len(told) == 21
    assert told[0]["not_scored"]["f1"] == "fewer than 50 rows"
    for each in ("activity:country", "activity:is_member", "user_id"):
        assert sum(part["rows"] for part in slices if part["slice"] == each) == 96
    assert "| activity:country | de | 48 |" in (artifacts / "slices.md").read_text()
    bundle = read_bundle(artifacts / "serving_bundle", digest)
    assert bundle.label.decision_threshold == calibrated.model.served.threshold


def test_the_logged_pipeline_is_calibrated_and_decides_as_the_bundle(client, calibrated, folder):
    run_id, digest = tracking.record(client, calibrated, folder)
    model_id = client.get_run(run_id).outputs.model_outputs[0].model_id
    logged = mlflow.sklearn.load_model(f"models:/{model_id}")
    X = calibrated.prepared.data.test.X
    served = load_model(read_bundle(folder / "serving_bundle", digest)).score(dict(X))
    np.testing.assert_allclose(served.probabilities, logged.predict_proba(X), atol=1e-6)
    assert served.labels.tolist() == logged.predict(X).tolist()


def test_a_calibrated_run_is_fitted_again_to_the_last_digit(client, calibrated, folder):
    run_id, _ = tracking.record(client, calibrated, folder)
    recorded = read_run(client, client.get_run(run_id))
    assert "decision_threshold" in recorded.scores
    assert _fit_again(recorded) == recorded.scores


def test_a_run_without_the_keys_has_none_of_their_records(client, training, folder):
    run_id, _ = tracking.record(client, training, folder)
    run = client.get_run(run_id)
    assert not {"decision_threshold", "n_calibration_rows", "n_validation_rows"} & set(
        run.data.metrics
    )
    assert "slices.md" not in {file.path for file in client.list_artifacts(run_id)}


def test_a_calibrated_model_is_compared_with_an_uncalibrated_champion(client, champion, calibrated):
    served = calibrated.model.served.answer(calibrated.prepared.data.test.X)
    contender = Contender("m", "neg_log_loss", SPINE, calibrated.prepared.data, served, [0, 1])
    comparison = compare_with_champion(
        calibrated.prepared.settings, client, None, calibrated.prepared.manifest, contender
    )
    y, share = calibrated.prepared.data.test.y, served.probabilities[:, 1].astype(float)
    rf = load_model(read_bundle(bundle_of(champion))).score(dict(calibrated.prepared.data.test.X))
    expected = log_loss(y, rf.probabilities[:, 1].astype(float)) - log_loss(y, share)
    assert comparison.metrics["champion_difference"] == pytest.approx(expected, abs=1e-6)
    assert comparison.metrics["n_champion_rows"] == len(y)

"""What a run records of a training, and when it becomes a version."""

import dataclasses
import re
import subprocess

import pytest

from runner.errors import RunnerError
from runner.modelling.training_data import table_digest
from runner.records import registry, tracking
from runner.records.git_checkout import git_commit
from runner.records.recorded_run import read_run
from runner.settings import Settings
from tests.modelling import FEATURES, REGRESSOR, SPINE, make_recipe
from tests.recorded_trainings import registered
from tests.trainings import changed


def test_a_recorded_training_becomes_a_version_and_then_the_champion(client, training, folder):
    run_id, version = registered(client, training, folder)
    assert client.get_run(run_id).info.status == "FINISHED"
    assert client.get_run(run_id).data.tags["git_commit"] == "not a git checkout"
    assert client.get_registered_model("m").aliases == {}
    registry.promote(client, "m", version)
    assert client.get_model_version_by_alias("m", "champion").run_id == run_id


def test_the_commit_is_git_s_and_where_git_cannot_tell_that_of_the_image(tmp_path, monkeypatch):
    image, other = (Settings("local", tmp_path, env) for env in ({"GIT_COMMIT": "abc"}, {}))
    assert (git_commit(image), git_commit(other)) == ("abc", "not a git checkout")
    for arguments in (["init"], ["commit", "--allow-empty", "--message", "x"]):
        who = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True)
    assert re.fullmatch("[0-9a-f]{40}", git_commit(image))
    monkeypatch.setenv("PATH", "")
    assert (git_commit(image), git_commit(other)) == ("abc", "git is not installed")


def test_the_run_names_its_dataset(client, training, folder):
    run_id, _ = tracking.record(client, training, folder)
    [dataset] = client.get_run(run_id).inputs.dataset_inputs
    assert dataset.dataset.name == "spine_y"
    assert training.lineage["dataset_sha256"].startswith(dataset.dataset.digest)


def test_the_run_tells_the_raw_columns_of_its_features_and_what_is_not_known(training):
    assert training.lineage["raw_columns"]["activity:orders_7d"] == ["raw_data.orders.id"]
    assert training.lineage["raw_columns"]["activity:country"] == []
    assert training.lineage["raw_columns_unresolved"] == {"activity.value": "it is not SQL"}


def test_a_refused_version_says_why(client, training, folder):
    refused = dataclasses.replace(
        training.model.evaluation, refusals=("roc_auc is 0.4", "f1 is 0.1")
    )
    _, version = registered(client, changed(training, evaluation=refused), folder)
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


def test_other_request_inputs_are_another_schema(client, training, folder, tmp_path):
    registered(client, training, folder)
    other = make_recipe(tmp_path / "other.yaml", more="request: [country]\n")
    with pytest.raises(RunnerError, match="this recipe is classification of y by user_id int64 w"):
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

    pipeline = training.model.pipeline
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
    assert metrics["test_roc_auc"] == training.model.evaluation.test["roc_auc"]
    assert (metrics["test_roc_auc_low"], metrics["test_roc_auc_high"]) == (0.7, 0.9)
    assert metrics["n_train_rows"] + metrics["n_test_rows"] == 400


def test_what_a_run_recorded_is_read_back(client, training, folder):
    run_id, _ = tracking.record(client, training, folder)
    recorded = read_run(client, client.get_run(run_id))
    assert recorded.recipe.dump() == training.recipe.dump()
    assert table_digest(recorded.rows) == recorded.tags["dataset_sha256"]
    assert recorded.scores["test_roc_auc"] == training.model.evaluation.test["roc_auc"]
    assert [f.column for f in recorded.inputs] == [f.column for f in FEATURES]
    assert recorded.environment["python"] == recorded.tags["python_version"]


def test_a_run_that_runner_did_not_record_is_not_read(client):
    run_id = new_run(client)
    with pytest.raises(RunnerError, match="did not finish"):
        read_run(client, client.get_run(run_id))
    client.set_terminated(run_id)
    with pytest.raises(RunnerError, match=r"no artifact recipe\.yaml"):
        read_run(client, client.get_run(run_id))


def new_run(client):
    return client.create_run(client.create_experiment("e")).info.run_id


def statuses(client):
    experiment = client.get_experiment_by_name("e")
    return [run.info.status for run in client.search_runs(experiment.experiment_id)]

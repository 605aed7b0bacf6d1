"""What MLflow holds when a training is recorded, and when recording it fails."""

import copy
import dataclasses
import json
import re
import subprocess
from datetime import timedelta
from pathlib import Path

import mlflow
import numpy as np
import pyarrow as pa
import pytest
import yaml
from mlflow import MlflowClient
from sklearn.metrics import log_loss

from contract.bundle_reader import read_bundle
from contract.scoring import Predictions, load_model
from contract.serving_errors import BundleError
from runner.commands.models import promotion
from runner.commands.models.comparison_report import table
from runner.commands.models.model_comparison import ComparedProperty as Row
from runner.commands.models.model_comparison import compare
from runner.commands.models.reproduction import _fit_again
from runner.commands.training.champion_comparison import compare_with_champion
from runner.errors import RunnerError
from runner.modelling.contender import NO_CHAMPION, Contender, score_intervals
from runner.modelling.split import split_by_time
from runner.modelling.training_data import Rows, table_digest
from runner.project.manifest import MartColumn
from runner.records import registry, tracking
from runner.records.git_checkout import git_commit
from runner.records.recorded_run import read_run
from runner.settings import Settings
from tests.conftest import postgres_env
from tests.mlflow_database import put_mlflow_database
from tests.modelling import FEATURES, MART, REGRESSOR, SPINE, make_recipe, rows
from tests.trainings import changed, project, train


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished training of a small forest."""
    folder = tmp_path_factory.mktemp("finished")
    return train(folder, make_recipe(folder / "recipe.yaml", more="gate: {roc_auc: 0.5}\n"))


@pytest.fixture
def training(finished, tmp_path):
    """The finished training, in a project of the test's own outside git."""
    return moved(finished, tmp_path)


def moved(finished, folder):
    """Return the training as that of a project in `folder`, which may be changed."""
    settings = project(folder)
    if not (folder / "mlruns").exists():
        put_mlflow_database(folder)
    manifest = dataclasses.replace(finished.prepared.manifest, path=folder / "manifest.json")
    pipeline = copy.deepcopy(finished.model.pipeline)
    return changed(finished, settings=settings, manifest=manifest, pipeline=pipeline)


@pytest.fixture
def client(training):
    return registry.connect(training.prepared.settings)


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


@pytest.fixture
def champion(client, training, folder):
    """The training as the champion, and its run."""
    run_id, version = registered(client, training, folder)
    tracking.award(client, training, version)
    return client.get_run(run_id)


def compared(client, training, predictions=None):
    """Compare with the champion; `predictions` of the test rows in place of the model's own."""
    served = training.model.served.answer(training.prepared.data.test.X)
    contender = Contender(
        "m", "roc_auc", SPINE, training.prepared.data, predictions or served, [0, 1]
    )
    return compare_with_champion(
        training.prepared.settings, client, None, training.prepared.manifest, contender
    )


def test_every_scorer_has_an_interval_on_the_test_rows(training):
    served = training.model.served.answer(training.prepared.data.test.X)
    contender = Contender("m", "roc_auc", SPINE, training.prepared.data, served, [0, 1])
    intervals = score_intervals(contender, ["roc_auc", "accuracy"])
    assert intervals["accuracy"].value == pytest.approx(
        training.model.pipeline.score(*training.prepared.data.test)
    )
    assert all(found.low < found.value < found.high for found in intervals.values())


def perfect(training):
    y = training.prepared.data.test.y
    return Predictions(y, np.column_stack([1 - y, y]).astype(np.float32))


def test_the_first_version_has_nobody_to_beat(client, training):
    assert compared(client, training) == NO_CHAMPION


def test_the_same_model_again_becomes_the_challenger(client, training, champion, tmp_path):
    comparison = compared(client, training)
    assert comparison.metrics["champion_difference_low"] == 0
    assert comparison.metrics["champion_difference_high"] == 0
    again = changed(training, comparison=comparison)
    (tmp_path / "again").mkdir()
    run_id, version = registered(client, again, tmp_path / "again")
    [refusal] = tracking.award(client, again, version)
    assert "not better by more than noise" in refusal
    assert again.model.comparison.summary == "version 1: no clear difference"
    assert client.get_model_version("m", version).tags["gate_reason"] == refusal
    assert aliases(client) == {"champion": "1", "challenger": "2"}
    assert client.get_run(run_id).data.params["bootstrap_seed"] == "0"


def test_a_better_model_becomes_the_champion(client, training, champion, tmp_path):
    better = changed(training, comparison=compared(client, training, perfect(training)))
    assert better.model.comparison.metrics["champion_difference_low"] > 0
    (tmp_path / "again").mkdir()
    _, version = registered(client, better, tmp_path / "again")
    assert tracking.award(client, better, version) == ()
    assert aliases(client) == {"champion": "2"}
    assert client.get_model_version("m", version).tags["champion_comparison"] == "better"


def test_a_challenger_that_is_clearly_worse_is_called_worse(client, training, champion, tmp_path):
    y = training.prepared.data.test.y
    wrong = Predictions(1 - y, np.column_stack([y, 1 - y]).astype(np.float32))
    worse = changed(training, comparison=compared(client, training, wrong))
    assert worse.model.comparison.summary == "version 1: worse"
    (tmp_path / "again").mkdir()
    run_id, version = registered(client, worse, tmp_path / "again")
    [refusal] = tracking.award(client, worse, version)
    assert refusal.endswith("test rows: worse by more than noise")
    for tags in (client.get_run(run_id).data.tags, client.get_model_version("m", version).tags):
        assert tags["champion_comparison"] == "worse"


def test_a_champion_whose_files_changed_is_not_loaded_and_not_replaced(client, training, champion):
    path = Path(champion.info.artifact_uri.removeprefix("file://")) / "serving_bundle/model.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    comparison = compared(client, training, perfect(training))
    assert "(version 1) cannot be compared" in comparison.refusal
    assert "does not match the SHA-256" in comparison.refusal


def test_a_champion_whose_feature_is_gone_from_dbt_is_not_replaced(client, training, champion):
    table = training.prepared.data.table.drop_columns(["activity__value"])
    data = dataclasses.replace(training.prepared.data, table=table)
    columns = {name: column for name, column in MART.columns.items() if name != "value"}
    marts = {"activity": dataclasses.replace(MART, columns=columns)}
    gone = dataclasses.replace(training.prepared.manifest, marts=marts)
    other = changed(training, data=data, manifest=gone)
    refusal = compared(client, other, perfect(training)).refusal
    assert "dbt has no activity:value any more" in refusal


def retyped(training, name, dtype, column=None):
    """Return the training where dbt has the feature in another type; no column: it has none."""
    columns = {**MART.columns, name: MartColumn(name, dtype, "")}
    mart = dataclasses.replace(MART, columns=columns)
    table = training.prepared.data.table.drop_columns([f"activity__{name}"])
    if column is not None:
        table = table.append_column(f"activity__{name}", column)
    return changed(
        training,
        data=dataclasses.replace(training.prepared.data, table=table),
        manifest=dataclasses.replace(training.prepared.manifest, marts={"activity": mart}),
    )


@pytest.mark.parametrize("is_joined", [True, False])
@pytest.mark.parametrize(
    ("name", "was", "dtype", "value"),
    [("value", "float64", "string", "much"), ("country", "string", "int64", 49)],
)
def test_a_champion_whose_feature_has_another_type_is_not_replaced(
    client, training, champion, name, was, dtype, value, is_joined
):
    column = pa.array([value] * 400) if is_joined else None
    refusal = compared(client, retyped(training, name, dtype, column), perfect(training)).refusal
    assert f"activity:{name} was {was} and is {dtype} now" in refusal


def test_a_number_of_another_type_is_compared(client, training, champion):
    orders = training.prepared.data.table["activity__orders_7d"].cast(pa.float64())
    again = retyped(training, "orders_7d", "float64", orders)
    assert compared(client, again).metrics["champion_difference"] == 0


def test_a_champion_whose_marts_dbt_cannot_build_is_not_replaced(client, training, champion):
    table = training.prepared.data.table.drop_columns(["activity__value"])
    # A build for PostgreSQL would ask it for the lock first; there is none here.
    settings = dataclasses.replace(training.prepared.settings, target="cloud")
    data = dataclasses.replace(training.prepared.data, table=table)
    other = changed(training, data=data, settings=settings)
    comparison = compared(client, other, perfect(training))  # there is no dbt project
    assert "(version 1) cannot be compared: " in comparison.refusal
    assert "profiles.yml: no such file" in comparison.refusal
    assert comparison.version == "1"


def test_only_rows_that_the_champion_cannot_have_seen_are_compared(client, training, champion):
    early = split_by_time(
        training.prepared.data.table["event_timestamp"],
        test=timedelta(days=10),
        embargo=timedelta(0),
        label_window=timedelta(0),
    )
    X, y = rows()
    longer = dataclasses.replace(
        training.prepared.data, test=Rows(X[early.test], y[early.test]), split=early
    )
    wider = changed(training, data=longer)
    metrics = compared(client, wider).metrics
    assert metrics["n_champion_rows"] == len(training.prepared.data.test.y) < early.test.sum()


def test_a_champion_that_changed_meanwhile_is_not_replaced(client, training, champion, tmp_path):
    beaten = changed(training, comparison=compared(client, training, perfect(training)))
    for number in ("2", "3"):
        (tmp_path / number).mkdir()
        _, version = registered(client, beaten, tmp_path / number)
        if version == "2":
            registry.promote(client, "m", "2")
    [refusal] = tracking.award(client, beaten, "3")
    assert refusal == "the champion became version 2 while this model was trained"
    assert client.get_model_version("m", "3").tags["gate"] == "refused"
    assert aliases(client) == {"champion": "2", "challenger": "3"}


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


def bundle_of(run):
    return Path(run.info.artifact_uri.removeprefix("file://")) / "serving_bundle"


@pytest.fixture
def versions(client, training, champion, tmp_path):
    """Versions 1, 2 and 3 of the model, version 1 the champion and 3 the challenger."""
    for number in ("2", "3"):
        (tmp_path / number).mkdir()
        registered(client, training, tmp_path / number)
    client.set_registered_model_alias("m", "challenger", "3")
    return client


def test_the_challenger_is_promoted_and_rolled_back(training, versions):
    assert promotion.promote(training.prepared.settings, "m", None) == ("3", "1")
    assert aliases(versions) == {"champion": "3"}
    assert promotion.rollback(training.prepared.settings, "m") == ("1", "3")
    assert aliases(versions) == {"champion": "1"}


def test_the_exposures_follow_the_champion(training, versions, tmp_path):
    for folder in ("models", "recipes"):
        (tmp_path / folder).mkdir()
    for name in ("activity", "spine_y"):
        (tmp_path / "models" / f"{name}.sql").write_text("select 1")
    make_recipe(tmp_path / "recipes" / "rf.yaml")

    def champion():
        text = (tmp_path / "models/_generated/exposures.yml").read_text()
        told = yaml.safe_load(text)["exposures"][0]["config"]["meta"]
        run = versions.get_model_version("m", told["champion_version"]).run_id
        assert told["mlflow_run_id"] == run
        assert told["metrics"]["test_roc_auc"] == round(
            training.model.evaluation.test["roc_auc"], 4
        )
        return told["champion_version"]

    promotion.promote(training.prepared.settings, "m", "3")
    assert champion() == "3"
    promotion.rollback(training.prepared.settings, "m")
    assert champion() == "1"


def test_a_rollback_does_not_return_to_what_was_rolled_back(training, versions):
    promotion.promote(training.prepared.settings, "m", "2")
    promotion.rollback(training.prepared.settings, "m")
    promotion.promote(training.prepared.settings, "m", "3")
    assert promotion.rollback(training.prepared.settings, "m") == ("1", "3")
    with pytest.raises(RunnerError, match="before version 1 that was neither rolled back nor"):
        promotion.rollback(training.prepared.settings, "m")


@pytest.fixture
def one_run(client, training, folder):
    """As `versions`, of one run: quicker."""
    run_id, digest = tracking.record(client, training, folder)
    for _ in range(3):
        tracking.register(client, run_id, digest, training)
    registry.promote(client, "m", "1")
    client.set_registered_model_alias("m", "challenger", "3")
    return client


class Interruption:
    """Ctrl-C in place of the registry's n-th write, counted from 0, until it came."""

    def __init__(self, monkeypatch, at):
        self.writes_left, self.monkeypatch = at, monkeypatch
        for name in (
            *("set_model_version_tag", "delete_model_version_tag"),
            *("set_registered_model_alias", "delete_registered_model_alias"),
        ):
            monkeypatch.setattr(MlflowClient, name, self.counted(getattr(MlflowClient, name)))

    def counted(self, write):
        def counting(*arguments):
            self.writes_left -= 1
            if self.writes_left < 0:
                raise KeyboardInterrupt
            return write(*arguments)

        return counting

    def of(self, command, *arguments):
        with pytest.raises(KeyboardInterrupt):
            command(*arguments)
        self.monkeypatch.undo()


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_rollback_knows_whether_an_interrupted_promotion_made_a_champion(
    training, one_run, monkeypatch, at
):
    settings = training.prepared.settings
    Interruption(monkeypatch, at).of(promotion.promote, settings, "m", "3")
    champion = aliases(one_run)["champion"]
    assert champion == ("3" if at == 2 else "1")
    promotion.promote(settings, "m", "2")
    assert promotion.rollback(settings, "m") == (champion, "2")


@pytest.mark.parametrize("at", [1, 2])
def test_a_rollback_is_right_while_a_former_champion_is_promoted_again(
    training, one_run, monkeypatch, at
):
    settings = training.prepared.settings
    promotion.promote(settings, "m", "2")
    one_run.set_registered_model_alias("m", "challenger", "1")
    Interruption(monkeypatch, at).of(promotion.promote, settings, "m", "1")
    assert promotion.rollback(settings, "m") == (("1", "2") if at == 1 else ("2", "1"))


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_rollback_that_was_interrupted_is_run_again(training, one_run, monkeypatch, at):
    settings = training.prepared.settings
    for version in ("3", "2", "3"):
        promotion.promote(settings, "m", version)
    Interruption(monkeypatch, at).of(promotion.rollback, settings, "m")
    assert aliases(one_run)["champion"] == "3"
    assert promotion.rollback(settings, "m") == ("2", "3")
    assert promotion.rollback(settings, "m") == ("1", "2")


def test_a_promotion_that_was_interrupted_is_ended_by_running_it_again(
    training, one_run, monkeypatch
):
    Interruption(monkeypatch, 2).of(promotion.promote, training.prepared.settings, "m", None)
    assert aliases(one_run) == {"champion": "3", "challenger": "3"}
    promotion.promote(training.prepared.settings, "m", None)
    assert aliases(one_run) == {"champion": "3"}
    assert promotion.rollback(training.prepared.settings, "m") == ("1", "3")


def test_what_does_not_exist_cannot_be_promoted(training, versions):
    with pytest.raises(RunnerError, match="m has no version 9") as refused:
        promotion.promote(training.prepared.settings, "m", "9")
    assert refused.value.hint == "versions: 1, 2, 3"
    for unknown in (
        lambda: promotion.promote(training.prepared.settings, "nobody", None),
        lambda: promotion.rollback(training.prepared.settings, "nobody"),
    ):
        with pytest.raises(RunnerError, match="no model 'nobody' is registered") as refused:
            unknown()
        assert refused.value.hint.startswith("registered models: m; ")


def test_a_version_that_cannot_be_served_is_not_promoted(training, versions):
    run = versions.get_run(versions.get_model_version("m", "2").run_id)
    (Path(run.info.artifact_uri.removeprefix("file://")) / "serving_bundle/model.onnx").unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        promotion.promote(training.prepared.settings, "m", "2")
    assert aliases(versions)["champion"] == "1"


def test_two_versions_side_by_side(training, versions, champion, database, redis_url, capsys):
    settings = training.prepared.settings
    known = {
        **postgres_env(database),
        "REDIS_URL": redis_url,
    }
    settings = dataclasses.replace(settings, env={**settings.env, **known})
    found = compare(settings, "m@champion", "m/2")  # no answers were ever collected
    assert "live" not in capsys.readouterr().err
    by_name = {(row.group, row.name): row for row in found}
    assert by_name["run", "id"].a == champion.info.run_id
    assert by_name["run", "id"].differs
    assert not by_name["metrics", "test_roc_auc"].differs
    assert by_name["features", "activity:value"].a == "yes"
    assert by_name["data", "test_from"].a == training.prepared.data.split.test_from.isoformat()
    assert by_name["parameters", "estimator.n_estimators"].b == "5"
    assert by_name["recipe", "feature_overrides"].a == "[]"
    same = compare(settings, champion.info.run_id, "m/1")
    assert not any(row.differs for row in same)


def test_the_table_has_every_metric_and_of_the_rest_what_differs():
    rows = [
        Row("metrics", "test_roc_auc", 0.75, 0.75),
        Row("features", "activity:value", "yes", "yes"),
        Row("features", "activity:other", None, "yes"),
        Row("data", "git_commit", f"{'a' * 40}-dirty", "b" * 40),
        Row("parameters", "estimator.max_depth", "3", "3"),
        Row("parameters", "estimator.max_iter", "3", "3"),
    ]
    cells, same = table(rows)
    assert cells == [
        ["metrics", "test_roc_auc", "", "0.75", "0.75"],
        ["features", "activity:other", "≠", "–", "yes"],
        ["data", "git_commit", "≠", f"{'a' * 12}-dirty", "b" * 12],
    ]
    assert same == "the same in both: features 1, parameters 2; --json has them"
    assert table(rows[:1])[1] == ""


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("m", "neither a model's version nor a run"),
        ("m/9", "MLflow has no m/9"),
        ("m@nobody", "MLflow has no m@nobody"),
        ("o'x@champion", 'no model "o\'x" is registered'),
        ("M@champion", r"no model 'M' is registered \(did you mean 'm'\?\)"),
        ("0" * 32, "MLflow has no 000"),
    ],
)
def test_what_cannot_be_compared_is_named(training, champion, reference, said):
    with pytest.raises(RunnerError, match=said):
        compare(training.prepared.settings, reference, "m/1")


def aliases(client):
    found = client.get_registered_model("m").aliases
    return {alias: str(version) for alias, version in found.items()}

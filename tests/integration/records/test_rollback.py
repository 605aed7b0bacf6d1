"""The champion is promoted and rolled back, by commands that may be interrupted."""

from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from contract.serving_errors import BundleError
from runner.commands.models import promotion
from runner.errors import RunnerError
from runner.records import registry, tracking
from tests.modelling import make_recipe
from tests.recorded_trainings import aliases


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

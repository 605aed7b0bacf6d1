"""A finished training, and MLflow in a project of the test's own."""

import pytest

from runner.records import registry, tracking
from tests.modelling import make_recipe
from tests.recorded_trainings import moved, registered
from tests.trainings import train


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A finished training of a small forest."""
    folder = tmp_path_factory.mktemp("finished")
    return train(folder, make_recipe(folder / "recipe.yaml", more="gate: {roc_auc: 0.5}\n"))


@pytest.fixture
def training(finished, tmp_path):
    """The finished training, in a project of the test's own outside git."""
    return moved(finished, tmp_path)


@pytest.fixture
def client(training):
    return registry.connect(training.prepared.settings)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "artifacts"
    path.mkdir()
    return path


@pytest.fixture
def champion(client, training, folder):
    """The training as the champion, and its run."""
    run_id, version = registered(client, training, folder)
    tracking.award(client, training, version)
    return client.get_run(run_id)


@pytest.fixture
def versions(client, training, champion, tmp_path):
    """Versions 1, 2 and 3 of the model, version 1 the champion and 3 the challenger."""
    for number in ("2", "3"):
        (tmp_path / number).mkdir()
        registered(client, training, tmp_path / number)
    client.set_registered_model_alias("m", "challenger", "3")
    return client

"""A version does not become the champion unnoticed when its features have changed since."""

import dataclasses
import json

import pytest
import redis

from contract.view_state import DIGESTS, state_key
from runner.commands.models.promotion import promote, rollback
from runner.errors import RunnerError
from runner.lineage.feature_definitions import Definitions, FeatureDefinitions
from runner.records import registry, tracking
from tests.conftest import free_port
from tests.mlflow_database import put_mlflow_database
from tests.modelling import make_recipe
from tests.trainings import changed, train

KEY = state_key("shop", "activity")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The settings of a project with version 1 of a model and version 2, of another definition."""
    folder = tmp_path_factory.mktemp("promoted")
    put_mlflow_database(folder)
    (folder / "profiles").mkdir()
    (folder / "profiles" / "feature_store.local.yaml").write_text("project: shop\n")
    training = train(folder, make_recipe(folder / "recipe.yaml"))
    settings = training.prepared.settings
    client = registry.connect(settings)
    for number in ("1", "2"):
        digests = {"activity:value": f"of version {number}", "activity:country": "the same"}
        definitions = FeatureDefinitions(Definitions("postgres", {}, {}), digests)
        version = changed(training, definitions=definitions)
        (folder / number).mkdir()
        run_id, digest = tracking.record(client, version, folder / number)
        tracking.register(client, run_id, digest, version)
    return settings


@pytest.fixture
def settings(trained, redis_server):
    """The same with its Redis; version 2 is the champion and version 1 was."""
    client = registry.connect(trained)
    for version in ("1", "2"):
        registry.promote(client, "m", version)
    client.delete_model_version_tag("m", "2", registry.CHAMPION_UNTIL)
    for number in ("1", "2"):
        client.delete_model_version_tag("m", number, "retired")
    return dataclasses.replace(trained, env={**trained.env, "REDIS_URL": redis_server.url})


@pytest.fixture
def stored(redis_server):
    """Make Redis hold the values of one version's definition."""
    with redis.Redis.from_url(redis_server.url) as client:
        yield lambda number: client.hset(
            KEY,
            DIGESTS,
            json.dumps({"value": [f"of version {number}"], "country": ["the same"]}),
        )
        client.delete(KEY)


def champion(settings):
    """Return the champion's number and why it is retired."""
    version = registry.version_with(registry.connect(settings), "m", registry.CHAMPION)
    return str(version.version), version.tags.get("retired")


@pytest.mark.parametrize(
    "move", [rollback, lambda settings, name: promote(settings, name, "1")], ids=["back", "by name"]
)
def test_a_version_whose_features_changed_since_is_refused(settings, stored, move):
    stored("2")
    with pytest.raises(
        RunnerError,
        match=r"^m version 1 was trained on another definition of activity:value than Redis has$",
    ) as refused:
        move(settings, "m")
    assert "--accept-changed-features" in refused.value.hint
    assert champion(settings) == ("2", None)


@pytest.mark.parametrize(
    "move",
    [rollback, lambda settings, name, reason: promote(settings, name, "1", reason)],
    ids=["back", "by name"],
)
def test_with_a_reason_it_is_the_champion_and_retired(settings, stored, move, capsys):
    stored("2")
    assert move(settings, "m", "version 2 is worse") == ("1", "2")
    assert champion(settings) == ("1", "version 2 is worse")
    assert "another definition of activity:value" in capsys.readouterr().err


def test_a_reason_that_is_not_needed_retires_nothing(settings, stored):
    stored("1")
    assert rollback(settings, "m", "just in case") == ("1", "2")
    assert champion(settings) == ("1", None)


def test_the_way_back_is_open_while_redis_does_not_answer(settings, capsys):
    away = {**settings.env, "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    assert rollback(dataclasses.replace(settings, env=away), "m") == ("1", "2")
    assert "m version 1 not compared with the online store: " in capsys.readouterr().err


def test_a_feature_that_dbt_no_longer_has_is_refused(settings, manifest_without_the_view):
    with pytest.raises(RunnerError, match="m version 1 takes activity:orders_7d, which dbt does"):
        rollback(settings, "m")
    assert rollback(settings, "m", "nothing else answers") == ("1", "2")
    assert champion(settings) == ("1", "nothing else answers")


@pytest.fixture
def manifest_without_the_view(settings):
    """Write a dbt manifest of the project that has no feature mart."""
    path = settings.manifest_path
    path.parent.mkdir(exist_ok=True)
    metadata = {"project_name": "shop", "adapter_type": "postgres", "invocation_id": "x"}
    path.write_text(json.dumps({"metadata": metadata, "nodes": {}, "sources": {}, "macros": {}}))
    yield
    path.unlink()

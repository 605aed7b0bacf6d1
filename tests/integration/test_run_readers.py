"""Runs and versions read from SQLite, from a server and by MLflow's client: the same of each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from runner.errors import RunnerError
from runner.records.client_reader import ClientReader
from runner.records.find_run import find_run
from runner.records.run_facts import RunReader, with_alias
from runner.records.run_reader import open_reader, read_json
from runner.settings import Settings
from tests.emulators.mlflow_server import mlflow_server

pytestmark = pytest.mark.servers
NAMES = ("o'neill", "purchase")


@dataclass(frozen=True)
class Store:
    """A tracking store with two models and a reader of it."""

    reader: RunReader
    client: MlflowClient
    run: Run


def _fill(uri: str, folder: Path) -> tuple[MlflowClient, Run]:
    client = MlflowClient(uri, uri)
    location = None if uri.startswith("http") else (folder / "a folder ü").as_uri()
    run = client.create_run(client.create_experiment("e", location), tags={"recipe": "rf"})
    run_id = run.info.run_id
    client.log_param(run_id, "depth", "3")
    for step, score in enumerate((0.5, 0.75)):
        client.log_metric(run_id, "score", score, step=step)
    client.log_metric(run_id, "unknown", math.nan)
    client.log_text(run_id, '{"label": "ü"}', "serving_bundle/serving.json")
    client.log_text(run_id, "no JSON", "notes.txt")
    client.set_terminated(run_id)
    for name in NAMES:
        client.create_registered_model(name)
        for _ in range(11):  # version 11 is newer than 2, whatever the letters say
            client.create_model_version(name, f"{run.info.artifact_uri}/serving_bundle", run_id)
    client.delete_model_version("purchase", "10")
    client.set_registered_model_alias("purchase", "champion", "2")
    client.set_registered_model_alias("purchase", "blue", "2")
    return client, client.get_run(run_id)


@pytest.fixture(scope="module", params=["database", "server", "client"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    root = tmp_path_factory.mktemp(request.param)
    if request.param == "server":
        with mlflow_server(root, str(root / "artifacts")) as uri:
            yield Store(open_reader(_settings(root, uri)), *_fill(uri, root))
        return
    uri = f"sqlite:///{root / 'mlflow.db'}"
    client, run = _fill(uri, root)
    open_it = ClientReader if request.param == "client" else open_reader
    yield Store(open_it(_settings(root, uri)), client, run)


def _settings(root: Path, uri: str) -> Settings:
    return Settings("local", root, {"MLFLOW_TRACKING_URI": uri})


def test_a_run_is_as_mlflow_has_it(store: Store) -> None:
    found = store.reader.run(store.run.info.run_id)
    assert found is not None
    assert (found.run_id, found.status) == (store.run.info.run_id, "FINISHED")
    assert found.experiment_id == store.run.info.experiment_id
    assert found.artifact_uri == store.run.info.artifact_uri
    assert dict(found.params) == {"depth": "3"}
    assert dict(found.tags) == store.run.data.tags
    assert found.metrics["score"] == 0.75
    assert math.isnan(found.metrics["unknown"])


def test_the_latest_runs_are_the_newest_that_were_neither_deleted_nor_tried(store: Store) -> None:
    experiment, first = store.run.info.experiment_id, store.run.info
    later = first.start_time + 60_000
    second = store.client.create_run(experiment, start_time=later)
    trial = store.client.create_run(
        experiment, start_time=later + 1, tags={"mlflow.parentRunId": second.info.run_id}
    )
    deleted = store.client.create_run(experiment, start_time=later + 2)
    store.client.delete_run(deleted.info.run_id)
    found = store.reader.runs(5)
    assert [run.run_id for run in found] == [second.info.run_id, first.run_id]
    assert found[1].started == datetime.fromtimestamp(first.start_time / 1000, UTC)
    assert found[1].tags["recipe"] == "rf"
    assert [run.run_id for run in store.reader.runs(1)] == [second.info.run_id]
    for run in (second, trial):
        store.client.delete_run(run.info.run_id)


def test_models_and_versions_are_as_mlflow_has_them(store: Store) -> None:
    assert store.reader.models() == sorted(NAMES)
    versions = store.reader.versions("purchase")
    assert [v.version for v in versions] == ["11", *(str(n) for n in range(9, 0, -1))]
    assert {v.run_id for v in versions} == {store.run.info.run_id}
    champion = with_alias(versions, "champion")
    assert champion is not None
    assert (champion.version, champion.aliases) == ("2", ("blue", "champion"))
    assert len(store.reader.versions("o'neill")) == 11


def test_what_is_not_there_is_none(store: Store) -> None:
    assert store.reader.run("0" * 32) is None
    assert store.reader.versions("nobody") == []


def test_an_artifact_is_read_and_a_missing_one_is_named(store: Store) -> None:
    run = store.reader.run(store.run.info.run_id)
    assert run is not None
    assert read_json(store.reader, run, "serving_bundle/serving.json") == {"label": "ü"}
    for path in ("none.json", "notes.txt"):
        with pytest.raises(RunnerError, match=f"has no artifact {path}"):
            read_json(store.reader, run, path)


@pytest.mark.skipif(find_spec("boto3") is not None, reason="boto3 is installed here")
def test_a_bucket_that_cannot_be_read_here_is_no_missing_artifact(store: Store) -> None:
    run = store.reader.run(store.run.info.run_id)
    assert run is not None
    elsewhere = dataclasses.replace(run, artifact_uri="s3://bucket/1/artifacts")
    with pytest.raises(RunnerError, match="S3") as refused:
        store.reader.artifact(elsewhere, "recipe.yaml")
    assert "pip install boto3" in refused.value.hint


@pytest.mark.parametrize("reference", ["purchase@champion", "purchase/11", "models:/purchase/2"])
def test_a_run_is_found_by_its_version(store: Store, reference: str) -> None:
    assert find_run(store.reader, reference).run_id == store.run.info.run_id


def test_what_there_is_of_a_model_is_told(store: Store) -> None:
    with pytest.raises(RunnerError, match="MLflow has no purchase/10") as refused:
        find_run(store.reader, "purchase/10")
    assert refused.value.hint.startswith("there is purchase/11, purchase/9,")


def test_a_database_that_is_not_there_has_nothing_and_is_not_created(tmp_path: Path) -> None:
    reader = open_reader(_settings(tmp_path, f"sqlite:///{tmp_path / 'mlflow.db'}"))
    assert reader.models() == []
    with pytest.raises(RunnerError, match="no model 'm' is registered") as refused:
        find_run(reader, "m@champion")
    assert "none yet" in refused.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_of_mlflow_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_text("not a database")
    with pytest.raises(RunnerError, match="MLflow's database cannot be read"):
        open_reader(_settings(tmp_path, f"sqlite:///{path}")).models()

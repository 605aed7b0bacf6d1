"""The shop with the servers of the cloud target: only variables and `profiles/` differ.

Redis with TLS, password and an authority of its own, alone and as a cluster; Feast's registry and
MLflow's artifacts in Cloud Storage; a real MLflow server between the artifacts and us. The
warehouse is PostgreSQL here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from google.cloud import storage
from google.cloud.storage import Bucket
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from contract.redis_address import RedisAddress
from runner.feature_store.store import open_store
from runner.settings import PostgresAddress
from tests.e2e.conftest import Project, copy_project
from tests.emulators.certificates import make_certificate
from tests.emulators.gcs import BUCKET, CloudStorage, cloud_storage
from tests.emulators.mlflow_server import mlflow_server
from tests.emulators.redis_servers import PASSWORD, RedisServers, one_redis, redis_cluster
from tests.serving_process import Serving, predict, serving

pytestmark = [pytest.mark.cloud, pytest.mark.servers, pytest.mark.timeout(600)]

SECRETS = (PASSWORD, quote(PASSWORD, safe=""))
MODEL = "category_purchase_rf"
DATA = ["--users", "150", "--days", "120", "--seed", "7"]
ROWS = [{"user_id": user, "category_id": 1 + user % 5} for user in (3, 1, 2, 10**9)]


@pytest.fixture(scope="module")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudStorage]:
    with cloud_storage(tmp_path_factory.mktemp("gcs")) as started:
        yield started


@pytest.fixture(scope="module")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory, gcs: CloudStorage) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    with mlflow_server(folder, f"gs://{BUCKET}/mlflow", gcs.environment) as uri:
        yield uri


@pytest.fixture(scope="module")
def tls_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServers]:
    folder = tmp_path_factory.mktemp("redis")
    with one_redis(folder / "data", make_certificate(folder / "certificates")) as started:
        yield started


@dataclass(frozen=True)
class Trained:
    """The shop after `runner train` and `runner materialize`, and all that those said."""

    project: Project
    said: str

    @contextmanager
    def on_cluster(self, url: str) -> Iterator[Trained]:
        """The same project with a cluster as its online store."""
        profile = self.project.root / "profiles" / "feature_store.local.yaml"
        before = profile.read_text()
        content = yaml.safe_load(before)
        content["online_store"]["redis_type"] = "redis_cluster"
        profile.write_text(yaml.safe_dump(content))
        env = {**self.project.env, "REDIS_URL": url}
        yield replace(self, project=replace(self.project, env=env))
        profile.write_text(before)

    @property
    def champion(self) -> ModelVersion:
        client = MlflowClient(self.project.env["MLFLOW_TRACKING_URI"])
        return client.get_model_version_by_alias(MODEL, "champion")

    def stock_features(self) -> dict[str, list[Any]]:
        """Return what the stock Feast SDK reads for ROWS."""
        os.environ.update(self.project.env)
        store = open_store(self.project.settings)
        views = ("user_demographics", "user_activity", "user_category_affinity")
        wanted = [
            f"{view.name}:{field.name}"
            for view in store.list_feature_views()
            if view.name in views
            for field in view.features
        ]
        answer = store.get_online_features(wanted, ROWS, full_feature_names=True)
        return dict(answer.to_dict())


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    new_database: Callable[[], PostgresAddress],
    gcs: CloudStorage,
    mlflow_uri: str,
    tls_redis: RedisServers,
) -> Trained:
    root = tmp_path_factory.mktemp("shop")
    project = copy_project(root, new_database(), RedisAddress.from_url(tls_redis.url))
    project.env.update(gcs.environment)
    project.env["MLFLOW_TRACKING_URI"] = mlflow_uri
    project.env["FEAST_REGISTRY"] = f"gs://{BUCKET}/feast/registry.db"
    profiles = root / "profiles"
    local = yaml.safe_load((profiles / "feature_store.local.yaml").read_text())
    cloud = yaml.safe_load((profiles / "feature_store.cloud.yaml").read_text())
    local |= {"registry": cloud["registry"], "online_store": cloud["online_store"]}
    (profiles / "feature_store.local.yaml").write_text(yaml.safe_dump(local))
    said = ""
    for command in (
        ["python", "-m", "examples.shop", *DATA],
        ["runner", "train", "recipes/rf.yaml"],
        ["runner", "materialize", "recipes/rf.yaml"],
    ):
        done = project.run(*command)
        said += done.stdout + done.stderr
        assert done.returncode == 0, done.stderr
    return Trained(project, said)


@pytest.fixture(scope="module")
def bucket(gcs: CloudStorage, trained: Trained) -> Bucket:
    os.environ.update(gcs.environment)
    return storage.Client().bucket(BUCKET)


def _served(trained: Trained) -> Any:
    env = {"MLFLOW_TRACKING_URI": trained.project.env["MLFLOW_TRACKING_URI"]}
    return serving(f"models:/{MODEL}@champion", trained.project.env["REDIS_URL"], **env)


def _bundle(trained: Trained, bucket: Bucket, file: str) -> Any:
    [name] = [
        blob.name
        for blob in bucket.list_blobs(prefix="mlflow/")
        if blob.name.endswith(f"{trained.champion.run_id}/artifacts/serving_bundle/{file}")
    ]
    return bucket.blob(name)


def test_a_training_registers_a_version_whose_bundle_lies_in_cloud_storage(
    trained: Trained, bucket: Bucket
) -> None:
    content = _bundle(trained, bucket, "serving.json").download_as_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert trained.champion.tags["serving_bundle_sha256"] == digest
    assert not (trained.project.root / "mlruns").exists()


def test_feasts_registry_lies_in_cloud_storage(trained: Trained, bucket: Bucket) -> None:
    assert bucket.blob("feast/registry.db").exists()
    os.environ.update(trained.project.env)
    views = {view.name for view in open_store(trained.project.settings).list_feature_views()}
    assert {"user_demographics", "user_activity", "user_category_affinity"} <= views
    assert not trained.project.query(
        "select 1 from information_schema.tables where table_schema = 'feast_registry'"
    )


def test_predictions_come_from_redis_with_tls_and_the_champion_of_the_mlflow_server(
    trained: Trained,
) -> None:
    with _served(trained) as server:
        _assert_answers(trained, server)


def test_a_cluster_with_tls_is_filled_read_by_feast_and_served(
    trained: Trained, tmp_path: Path
) -> None:
    certificate = make_certificate(tmp_path / "certificates")
    with (
        redis_cluster(tmp_path / "redis", certificate) as store,
        trained.on_cluster(store.url) as clustered,
    ):
        clustered.project.runner("materialize", "recipes/rf.yaml")
        assert all(store.node(port).dbsize() > 0 for port in store.ports)
        with _served(clustered) as server:
            _assert_answers(clustered, server)


def _assert_answers(trained: Trained, server: Serving) -> None:
    """Assert that the API used the very features that stock Feast reads."""
    with server.client() as client:
        answer = predict(client, *ROWS, include_features=True)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["model"] == {"name": MODEL, "version": trained.champion.version}
    stock = trained.stock_features()
    for position, one in enumerate(body["predictions"]):
        assert 0 <= one["probabilities"]["1"] <= 1
        used = {name: feature["value"] for name, feature in one["features"].items()}
        assert used == {name: stock[name][position] for name in used}
    known, unknown = body["predictions"][0], body["predictions"][-1]
    assert {f["status"] for f in known["features"].values()} & {"present"}
    assert {f["status"] for f in unknown["features"].values()} == {"missing"}
    assert not [secret for secret in SECRETS if secret in str(server.lines)]


def test_a_bundle_that_was_changed_in_cloud_storage_is_refused(
    trained: Trained, bucket: Bucket
) -> None:
    blob = _bundle(trained, bucket, "serving.json")
    original = blob.download_as_bytes()
    blob.upload_from_string(original.replace(b"category_purchase", b"category_purchasf"))
    try:
        server = Serving(
            SERVING_MODEL=f"models:/{MODEL}@champion",
            REDIS_URL=trained.project.env["REDIS_URL"],
            MLFLOW_TRACKING_URI=trained.project.env["MLFLOW_TRACKING_URI"],
        )
        assert server.wait() == 1
    finally:
        blob.upload_from_string(original)
    assert "is not the registered" in str(server.lines)


def test_nothing_that_was_said_or_recorded_holds_the_password(
    trained: Trained, bucket: Bucket
) -> None:
    recorded = [blob.download_as_bytes() for blob in bucket.list_blobs()]
    assert len(recorded) > 5
    for secret in SECRETS:
        assert secret not in trained.said
        assert not [content for content in recorded if secret.encode() in content]

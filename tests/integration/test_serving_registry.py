"""What MLflow registered is found without MLflow: in its database and through its server."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from contract.bundle_reader import read_bundle
from contract.model_registry import FolderSource, Source, local_folder, open_source
from contract.serving_errors import BundleError, ConfigurationError, RegistryError
from runner.errors import RunnerError
from runner.records.registry import require_model
from serving.loaded import load
from tests.conftest import free_port
from tests.emulators.mlflow_server import mlflow_server
from tests.serving_bundles import register, write_linear_bundle


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    write_linear_bundle(folder)
    return folder


@pytest.fixture(name="database", scope="module")
def _database(
    tmp_path_factory: pytest.TempPathFactory, folder: Path
) -> Iterator[tuple[str, list[str]]]:
    """An MLflow database with two versions in a folder that needs quoting, and the versions."""
    root = tmp_path_factory.mktemp("a folder ü")
    uri = f"sqlite:///{root / 'mlflow.db'}"
    previous = Path.cwd()
    os.chdir(root)  # MLflow writes artifacts below the current folder by default
    yield uri, [register(uri, folder), register(uri, folder)]
    os.chdir(previous)


@pytest.fixture(name="server", scope="module")
def _server(
    tmp_path_factory: pytest.TempPathFactory, folder: Path
) -> Iterator[tuple[str, list[str]]]:
    """An MLflow server that proxies artifacts, with two versions, and the versions."""
    root = tmp_path_factory.mktemp("mlflow")
    with mlflow_server(root, str(root / "artifacts")) as uri:
        yield uri, [register(uri, folder), register(uri, folder)]


@pytest.fixture(name="registry", params=["database", "server"])
def _registry(request: pytest.FixtureRequest) -> tuple[str, list[str]]:
    found: tuple[str, list[str]] = request.getfixturevalue(request.param)
    return found


def test_the_champion_is_found_and_loaded(registry: tuple[str, list[str]]) -> None:
    uri, versions = registry
    source = open_source("models:/purchase@champion", uri, {})
    version = source.resolve()
    assert (version.name, version.version) == ("purchase", versions[1])
    loaded = load(source, version)
    assert loaded.model.score_rows([[None] * 5]).labels.tolist() == [0]


def test_a_copy_of_mlruns_put_back_in_its_place_serves_the_champion_again(
    database: tuple[str, list[str]], tmp_path: Path
) -> None:
    root = Path(database[0].removeprefix("sqlite:///")).parent
    shutil.copytree(root, tmp_path / "copy")
    lost = root.rename(tmp_path / "lost")  # which the other tests' client has open
    try:
        source = open_source("models:/purchase@champion", database[0], {})
        with pytest.raises(RegistryError):
            source.resolve()
        shutil.copytree(tmp_path / "copy", root)
        version = source.resolve()
        assert version.version == database[1][1]
        assert load(source, version).version == version
    finally:
        shutil.rmtree(root)
        lost.rename(root)


def test_moving_the_alias_back_is_seen(registry: tuple[str, list[str]]) -> None:
    from mlflow import MlflowClient

    uri, versions = registry
    source = open_source("models:/purchase@champion", uri, {})
    client = MlflowClient(uri, uri)
    client.set_registered_model_alias("purchase", "champion", versions[0])
    assert source.resolve().version == versions[0]
    client.set_registered_model_alias("purchase", "champion", versions[1])
    assert source.resolve().version == versions[1]


def test_a_version_is_found_by_its_number(registry: tuple[str, list[str]]) -> None:
    uri, versions = registry
    source = open_source(f"models:/purchase/{versions[0]}", uri, {})
    assert source.resolve().version == versions[0]


@pytest.mark.parametrize(
    ("model", "complaint", "hint"),
    [
        ("models:/purchase@loser", "'purchase' has no version with alias 'loser'", "champion (2)"),
        ("models:/nothing@champion", "no model 'nothing' is registered", "runner train"),
        (
            "models:/Purchase/1",
            r"no model 'Purchase' is registered \(did you mean 'purchase'\?\)",
            "runner train",
        ),
        ("models:/purchase/99", "'purchase' has no version 99", "versions: 1, 2"),
    ],
)
def test_an_unknown_model_is_told(
    registry: tuple[str, list[str]], model: str, complaint: str, hint: str
) -> None:
    with pytest.raises(RegistryError, match=complaint) as told:
        open_source(model, registry[0], {}).resolve()
    assert hint in told.value.hint


def test_an_unknown_model_is_told_as_by_promote(registry: tuple[str, list[str]]) -> None:
    from mlflow import MlflowClient

    with pytest.raises(RunnerError) as promoted:
        require_model(MlflowClient(registry[0], registry[0]), "nothing")
    with pytest.raises(RegistryError) as served:
        open_source("models:/nothing@champion", registry[0], {}).resolve()
    assert (served.value.message, served.value.hint) == (
        promoted.value.message,
        promoted.value.hint,
    )


def test_without_a_champion_the_version_to_promote_is_named(
    registry: tuple[str, list[str]], folder: Path
) -> None:
    from mlflow import MlflowClient

    versions = [register(registry[0], folder, "no champion") for _ in range(3)]
    client = MlflowClient(registry[0], registry[0])
    client.delete_registered_model_alias("no champion", "champion")
    source = open_source("models:/no champion@champion", registry[0], {})
    with pytest.raises(RegistryError) as newest:
        source.resolve()
    assert newest.value.hint.startswith(f"`runner promote 'no champion' {versions[2]}` makes ")
    client.set_registered_model_alias("no champion", "challenger", versions[1])
    with pytest.raises(RegistryError) as challenger:
        source.resolve()
    assert challenger.value.hint.startswith(f"`runner promote 'no champion' {versions[1]}` makes ")


@pytest.mark.parametrize("wanted", ["/9", "@prod"])
def test_a_version_or_alias_that_is_not_there_lists_those_that_are(
    registry: tuple[str, list[str]], folder: Path, wanted: str
) -> None:
    name = f"listed{len(wanted)}"
    versions = [register(registry[0], folder, name) for _ in range(2)]
    with pytest.raises(RegistryError) as refused:
        open_source(f"models:/{name}{wanted}", registry[0], {}).resolve()
    assert refused.value.hint == (
        f"versions: {', '.join(versions)}; aliases: champion ({versions[-1]})"
    )


def test_a_version_without_a_bundle_is_refused(
    registry: tuple[str, list[str]], folder: Path
) -> None:
    register(registry[0], folder, "foreign", tag="none")
    with pytest.raises(BundleError, match="foreign version 1 has no tag serving_bundle_sha256"):
        open_source("models:/foreign@champion", registry[0], {}).resolve()


def test_a_bundle_other_than_the_tagged_one_is_refused(
    registry: tuple[str, list[str]], folder: Path
) -> None:
    register(registry[0], folder, "forged", tag="0" * 64)
    source = open_source("models:/forged@champion", registry[0], {})
    with pytest.raises(BundleError, match="is not the registered 0000"):
        load(source, source.resolve())


def test_a_deleted_version_is_not_found(registry: tuple[str, list[str]], folder: Path) -> None:
    from mlflow import MlflowClient

    version = register(registry[0], folder, "deleted")
    MlflowClient(registry[0], registry[0]).delete_model_version("deleted", version)
    with pytest.raises(RegistryError, match="has no version"):
        open_source(f"models:/deleted/{version}", registry[0], {}).resolve()


def test_a_run_whose_artifacts_are_gone_is_refused(
    server: tuple[str, list[str]], folder: Path
) -> None:
    source = open_source("models:/purchase@champion", server[0], {})
    version = source.resolve()
    gone = type(version)(version.name, "9", "mlflow-artifacts:/9/none/artifacts", "0")
    with pytest.raises(BundleError, match=r"serving\.json: no such artifact"):
        load(source, gone)


def test_a_database_that_is_not_there_or_not_mlflows_is_told(tmp_path: Path) -> None:
    for name in ("missing.db", "text.db"):
        (tmp_path / "text.db").write_text("this is no database")
        source = open_source("models:/m@champion", f"sqlite:///{tmp_path / name}", {})
        with pytest.raises(RegistryError, match=f"{name}: MLflow's database cannot be read"):
            source.resolve()
    assert not (tmp_path / "missing.db").exists()


def test_a_server_that_is_not_there_is_told() -> None:
    source = open_source("models:/m@champion", f"http://127.0.0.1:{free_port()}", {})
    with pytest.raises(
        RegistryError, match=r"the MLflow server at http://127.0.0.1:\d+ does not answer: Conn"
    ):
        source.resolve()


def test_a_folder_is_its_own_version(folder: Path) -> None:
    source = open_source(str(folder), "", {})
    assert isinstance(source, FolderSource)
    assert source.resolve().version == read_bundle(folder).digest[:12]
    with pytest.raises(RegistryError, match="cannot be read"):
        open_source("/nowhere", "", {}).resolve()


@pytest.mark.parametrize(
    ("model", "tracking"),
    [
        ("models:/m", "sqlite:///m.db"),
        ("models:/m@a/1", "sqlite:///m.db"),
        ("models:/m@champion", "postgresql://db"),
        ("models:/m@champion", ""),
    ],
)
def test_addresses_of_no_known_form_are_refused(model: str, tracking: str) -> None:
    with pytest.raises(ConfigurationError):
        open_source(model, tracking, {})


def test_artifacts_elsewhere_are_refused_with_a_way_out() -> None:
    assert local_folder("file:///a%20b/c") == Path("/a b/c")
    with pytest.raises(RegistryError, match="at gs://") as caught:
        local_folder("gs://bucket/run")
    assert "MLFLOW_TRACKING_URI" in caught.value.hint


class _Stub(BaseHTTPRequestHandler):
    """An MLflow server that answers what the test put into `answers`, by path."""

    answers: dict[str, tuple[int, bytes]]
    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("Authorization", ""))
        path = self.path.partition("?")[0]
        status, body = self.answers.get(path.rpartition("/")[2], (404, b""))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(name="stub")
def _stub() -> Iterator[tuple[str, type[_Stub]]]:
    handler = type("Stub", (_Stub,), {"answers": {}, "seen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", handler
        server.shutdown()


def _version(artifact_uri: str) -> dict[str, tuple[int, bytes]]:
    tags = [{"key": "serving_bundle_sha256", "value": "0"}]
    version = {"name": "m", "version": "1", "run_id": "r", "tags": tags}
    return {
        "alias": (200, json.dumps({"model_version": version}).encode()),
        "get": (200, json.dumps({"run": {"info": {"artifact_uri": artifact_uri}}}).encode()),
    }


@pytest.mark.parametrize(
    ("env", "header"),
    [
        ({}, ""),
        ({"MLFLOW_TRACKING_TOKEN": "t"}, "Bearer t"),
        ({"MLFLOW_TRACKING_USERNAME": "u", "MLFLOW_TRACKING_PASSWORD": "p"}, "Basic dTpw"),
    ],
)
def test_credentials_are_sent_as_mlflow_sends_them(
    stub: tuple[str, type[_Stub]], env: dict[str, str], header: str
) -> None:
    url, handler = stub
    handler.answers |= _version("/artifacts")
    open_source("models:/m@champion", url, env).resolve()
    assert set(handler.seen) == {header}


@pytest.mark.parametrize("answer", [(500, b"boom"), (200, b"<html>")])
def test_a_server_that_answers_otherwise_is_told(
    stub: tuple[str, type[_Stub]], answer: tuple[int, bytes]
) -> None:
    url, handler = stub
    handler.answers["alias"] = answer
    with pytest.raises(RegistryError, match="does not answer as expected"):
        open_source("models:/m@champion", url, {}).resolve()


def test_a_version_whose_run_is_gone_is_told(stub: tuple[str, type[_Stub]]) -> None:
    url, handler = stub
    handler.answers |= _version("/artifacts")
    handler.answers["get"] = (404, b"{}")
    with pytest.raises(RegistryError, match="run r of m 1 is gone"):
        open_source("models:/m@champion", url, {}).resolve()


def _proxied(stub: tuple[str, type[_Stub]]) -> Source:
    url, handler = stub
    handler.answers |= _version("mlflow-artifacts:/1/r/artifacts")
    return open_source("models:/m@champion", url, {})


@pytest.mark.parametrize(
    ("manifest", "complaint"),
    [
        ((200, b'{"files": {"../../evil": ""}}'), r"\.\./\.\./evil is not a plain file name"),
        ((200, b"[]"), "not a manifest"),
        ((200, b'{"files": {"model.onnx": ""}}'), r"model\.onnx: no such artifact"),
    ],
)
def test_a_download_that_is_no_bundle_is_refused(
    stub: tuple[str, type[_Stub]], manifest: tuple[int, bytes], complaint: str
) -> None:
    source = _proxied(stub)
    stub[1].answers["serving.json"] = manifest
    with pytest.raises(BundleError, match=complaint):
        load(source, source.resolve())


def test_a_download_that_fails_is_told(stub: tuple[str, type[_Stub]]) -> None:
    source = _proxied(stub)
    stub[1].answers["serving.json"] = (500, b"")
    with pytest.raises(RegistryError, match="does not answer as expected"):
        load(source, source.resolve())


def test_a_server_with_local_artifacts_is_read_from_disk(
    stub: tuple[str, type[_Stub]], folder: Path
) -> None:
    url, handler = stub
    handler.answers |= _version("file:///nowhere/artifacts")
    source = open_source("models:/m@champion", url, {})
    with pytest.raises(BundleError, match=r"/nowhere/artifacts/serving_bundle/serving\.json"):
        load(source, source.resolve())

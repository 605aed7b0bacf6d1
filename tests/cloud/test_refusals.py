"""What is told when a server of the cloud target refuses us: one error, one hint, no secret."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from contract.model_registry import open_source
from contract.serving_errors import RegistryError, ServingError
from runner.cli import app
from runner.errors import RunnerError
from runner.feature_store.store import open_store
from runner.online.materialize import materialize
from runner.servers.tracking_server import require_tracking_server
from runner.settings import PostgresAddress, Settings
from tests.conftest import free_port
from tests.emulators.certificates import Certificate, make_certificate
from tests.emulators.gcs import BUCKET, CloudStorage, cloud_storage
from tests.emulators.mlflow_server import mlflow_server
from tests.emulators.redis_servers import PASSWORD, RedisServers, one_redis, redis_cluster
from tests.online_project import OnlineProject
from tests.serving_bundles import write_linear_bundle
from tests.serving_process import Serving, predict

pytestmark = [pytest.mark.cloud, pytest.mark.servers, pytest.mark.timeout(900)]

_WRONG = "wröng-password"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def tls(
    tmp_path_factory: pytest.TempPathFactory, certificate: Certificate
) -> Iterator[RedisServers]:
    with one_redis(tmp_path_factory.mktemp("tls"), certificate) as started:
        yield started


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServers]:
    with one_redis(tmp_path_factory.mktemp("plain")) as started:
        yield started


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """What another authority signed."""
    return make_certificate(tmp_path_factory.mktemp("other"))


_LOGIN_RUNNER = (
    "set REDIS_URL=redis://:<password>@<host>:<port>/0, or to a free port for a server of the "
    "project's own; then `runner up`"
)
_LOGIN_SERVING = "write user and password into REDIS_URL, special characters percent-encoded"
_WRONGPASS = "invalid username-password pair or user is disabled."
_CA = "name its authority's PEM file: REDIS_URL=rediss://…?ssl_ca_certs=/path/to/ca.pem"
_UNKNOWN = "self-signed certificate in certificate chain"
_NAME = (
    "write the name that it was issued for into REDIS_URL, or trust whatever its authority signed: "
    "…&ssl_check_hostname=false"
)
_MISMATCH = "Hostname mismatch, certificate is not valid for 'localhost'."
_PLAIN = "if it speaks plain Redis, write redis:// instead of rediss:// in REDIS_URL"

# What is wrong → the URL, then error and hint of runner, then reason and hint of serving.
_REFUSALS = {
    "wrong password": (
        "rediss://:{wrong}@127.0.0.1:{tls}/0?ssl_ca_certs={ca}",
        f"Redis at 127.0.0.1:{{tls}} refuses the login: {_WRONGPASS}",
        _LOGIN_RUNNER,
        f"127.0.0.1:{{tls}} refuses the login: WRONGPASS {_WRONGPASS}",
        _LOGIN_SERVING,
    ),
    "no password": (
        "rediss://127.0.0.1:{tls}/0?ssl_ca_certs={ca}",
        "Redis at 127.0.0.1:{tls} refuses the login: Authentication required.",
        _LOGIN_RUNNER,
        "127.0.0.1:{tls} refuses the login: NOAUTH Authentication required.",
        _LOGIN_SERVING,
    ),
    "another authority": (
        "rediss://:{right}@127.0.0.1:{tls}/0?ssl_ca_certs={other}",
        f"Redis at 127.0.0.1:{{tls}}: its certificate is refused: {_UNKNOWN}",
        _CA,
        f"the certificate of 127.0.0.1:{{tls}} is refused: {_UNKNOWN}",
        _CA,
    ),
    "no authority": (
        "rediss://:{right}@127.0.0.1:{tls}/0",
        f"Redis at 127.0.0.1:{{tls}}: its certificate is refused: {_UNKNOWN}",
        _CA,
        f"the certificate of 127.0.0.1:{{tls}} is refused: {_UNKNOWN}",
        _CA,
    ),
    "another host name": (
        "rediss://:{right}@localhost:{tls}/0?ssl_ca_certs={ca}",
        f"Redis at localhost:{{tls}}: its certificate is refused: {_MISMATCH}",
        _NAME,
        f"the certificate of localhost:{{tls}} is refused: {_MISMATCH}",
        _NAME,
    ),
    "plain text to a TLS port": (
        "redis://:{right}@127.0.0.1:{tls}/0",
        "what listens at 127.0.0.1:{tls} speaks TLS only",
        "write REDIS_URL=rediss://…?ssl_ca_certs=/path/to/ca.pem",
        "127.0.0.1:{tls} does not answer as Redis",
        "if it speaks TLS, write rediss:// instead of redis:// in REDIS_URL",
    ),
    "TLS to a plain port": (
        "rediss://:{right}@127.0.0.1:{plain}/0?ssl_ca_certs={ca}",
        "what listens at 127.0.0.1:{plain} does not answer in TLS",
        _PLAIN,
        "127.0.0.1:{plain} does not answer in TLS",
        _PLAIN,
    ),
}


@pytest.fixture(name="refusal", params=_REFUSALS)
def _refusal(
    request: pytest.FixtureRequest,
    tls: RedisServers,
    plain: RedisServers,
    certificate: Certificate,
    other: Certificate,
) -> list[str]:
    """The URL, and what runner and serving tell of it: error and hint each."""
    known = {
        "tls": tls.ports[0],
        "plain": plain.ports[0],
        "ca": certificate.authority,
        "other": other.authority,
        "right": quote(PASSWORD, safe=""),
        "wrong": quote(_WRONG),
    }
    return [text.format(**known) for text in _REFUSALS[request.param]]


@pytest.fixture(name="project")
def _project(
    tmp_path: Path, database: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OnlineProject]:
    (tmp_path / "dbt_project.yml").write_text("name: shop\n")
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "local.env").touch()
    made = OnlineProject(tmp_path, database, "redis://127.0.0.1:1/0")
    made.mart("activity", {"user_id": "int64"}, {"orders": "int64"})
    made.write_manifest()
    for name, value in made.settings.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    yield made
    made.sql.close()


def test_materialize_is_refused_with_one_error_and_one_hint(
    refusal: list[str], project: OnlineProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, error, hint, *_ = refusal
    monkeypatch.setenv("REDIS_URL", url)
    done = CliRunner().invoke(app, ["materialize", "activity"])
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [f"error: {error}", f"hint: {hint}"]
    assert not done.stdout
    assert_no_secret(done.output)


def test_materialize_itself_refuses_where_no_command_has_looked_before(
    refusal: list[str], project: OnlineProject
) -> None:
    url, error, hint, *_ = refusal
    env = {**project.settings.env, "REDIS_URL": url}
    with pytest.raises(RunnerError) as refused:
        materialize(Settings("local", project.settings.root, env), project.marts)
    assert (refused.value.message, refused.value.hint) == (error, hint)


def test_serving_logs_one_error_and_one_hint_and_answers_503(
    refusal: list[str], tmp_path: Path
) -> None:
    url, _, _, reason, hint = refusal
    write_linear_bundle(tmp_path / "bundle")
    server = Serving(SERVING_MODEL=str(tmp_path / "bundle"), REDIS_URL=url)
    try:
        told = server.wait_for("online store unavailable")
        with server.client() as client:
            answer = predict(client, {"user_id": 1, "category_id": "toys"})
            ready = client.get("/ready")
    finally:
        server.stop()
    assert (told["reason"], told["hint"]) == (reason, hint)
    assert (answer.status_code, ready.status_code) == (503, 503)
    assert answer.json()["error"]["message"] == "the online store does not answer"
    errors = [line for line in server.lines if isinstance(line, dict) and line["level"] == "error"]
    assert errors == [told], "told once, however often it is tried"
    assert_no_secret(f"{server.lines}{answer.text}{ready.text}")


def test_a_certificate_for_another_name_can_be_accepted_on_purpose(
    tls: RedisServers, tmp_path: Path
) -> None:
    """As redis-py and Feast do: the authority is still checked."""
    url = f"{tls.url}&ssl_check_hostname=false".replace("127.0.0.1", "localhost")
    write_linear_bundle(tmp_path / "bundle")
    server = Serving(SERVING_MODEL=str(tmp_path / "bundle"), REDIS_URL=url)
    try:
        assert server.wait_for("online store connected")
    finally:
        server.stop()


def test_a_file_of_authorities_that_is_not_there_is_named(
    tls: RedisServers, project: OnlineProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", f"{tls.url}.gone")
    done = CliRunner().invoke(app, ["materialize", "activity"])
    ca = tls.certificate.authority if tls.certificate else ""
    assert done.stderr.splitlines() == [
        f"error: REDIS_URL: ssl_ca_certs={ca}.gone cannot be read: No such file or directory",
        "hint: name a PEM file",
    ]


def test_a_cluster_that_the_yaml_does_not_know_of_is_told_and_the_other_way_round(
    tmp_path: Path, project: OnlineProject, plain: RedisServers
) -> None:
    path = project.settings.feature_store_yaml
    with redis_cluster(tmp_path / "redis") as cluster:
        error = _refused(project, cluster.url)
        assert error.message == (
            f"{path}: online_store.redis_type does not fit: 127.0.0.1:{cluster.ports[0]} is a node "
            "of a Redis Cluster"
        )
        assert error.hint == "write redis_type: redis_cluster"
    path.write_text("project: shop\nonline_store: {redis_type: redis_cluster}\n")
    error = _refused(project, plain.url)
    assert error.message.endswith(f"127.0.0.1:{plain.ports[0]} is a single Redis")
    assert error.hint == "write redis_type: redis"


def _refused(project: OnlineProject, url: str) -> RunnerError:
    env = {**project.settings.env, "REDIS_URL": url}
    with pytest.raises(RunnerError) as refused:
        materialize(Settings("local", project.settings.root, env), project.marts)
    return refused.value


def assert_no_secret(text: str) -> None:
    for secret in (PASSWORD, quote(PASSWORD, safe=""), _WRONG, quote(_WRONG)):
        assert secret not in text


# --- Cloud Storage ---


@pytest.fixture(scope="module")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudStorage]:
    with cloud_storage(tmp_path_factory.mktemp("gcs")) as started:
        yield started


def _registry_refused(project: OnlineProject, path: str, **env: str) -> RunnerError:
    settings = Settings(
        "local", project.settings.root, {**project.settings.env, "FEAST_REGISTRY": path, **env}
    )
    with pytest.raises(RunnerError) as refused:
        open_store(settings)
    return refused.value


def test_a_registry_in_a_bucket_that_is_not_there(
    project: OnlineProject, gcs: CloudStorage
) -> None:
    error = _registry_refused(project, "gs://nowhere/feast/r.db", **gcs.environment)
    assert error.message == "FEAST_REGISTRY=gs://nowhere/feast/r.db: there is no bucket nowhere"
    assert error.hint == (
        "make it with `gcloud storage buckets create gs://nowhere`, or correct FEAST_REGISTRY"
    )


def test_a_cloud_storage_that_does_not_answer(project: OnlineProject) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    path = f"gs://{BUCKET}/feast/r.db"
    error = _registry_refused(project, path, STORAGE_EMULATOR_HOST=url, GOOGLE_CLOUD_PROJECT="p")
    assert error.message.startswith(f"FEAST_REGISTRY={path}: Google Cloud Storage does not answer")
    assert error.hint == "check the network, and STORAGE_EMULATOR_HOST if it is set"


def test_credentials_that_are_not_there(
    project: OnlineProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = str(tmp_path / "gone.json")
    env = {"GOOGLE_APPLICATION_CREDENTIALS": missing, "GOOGLE_CLOUD_PROJECT": "p"}
    error = _registry_refused(project, f"gs://{BUCKET}/r.db", **env)
    assert error.message.startswith(f"FEAST_REGISTRY=gs://{BUCKET}/r.db: no valid Google credent")
    assert missing in error.message
    assert error.hint == "run `gcloud auth application-default login`, or as a service account"


# --- MLflow ---


def test_an_mlflow_server_with_a_password(tmp_path: Path) -> None:
    right = "of-a-test-only"
    with mlflow_server(tmp_path, str(tmp_path / "artifacts"), password=right) as uri:

        def settings(password: str) -> Settings:
            env = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": password}
            return Settings("local", Path(), {"MLFLOW_TRACKING_URI": uri, **env})

        require_tracking_server(settings(right))
        with pytest.raises(RegistryError) as refused:
            require_tracking_server(settings(_WRONG))
    told = f"the MLflow server at {uri} refuses the credentials (401 Unauthorized)"
    assert (refused.value.message, refused.value.hint) == (told, _LET_IN)
    pair = base64.b64encode(f"admin:{_WRONG}".encode()).decode()
    assert not {_WRONG, pair} & set(f"{refused.value.message} {refused.value.__cause__}".split())


class _Gate(BaseHTTPRequestHandler):
    """What stands before an MLflow server, or is none, and answers with the status in its class."""

    status = 403

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(name="gate", params=[403, 404])
def _gate(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    handler = type("Gate", (_Gate,), {"status": request.param})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", request.param
        server.shutdown()


_LET_IN = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
_SAID = {
    403: ("the MLflow server at {} refuses the credentials (403 Forbidden)", _LET_IN),
    404: ("what answers at {} is not an MLflow server", "check MLFLOW_TRACKING_URI"),
}


def test_what_answers_for_mlflow_and_does_not_let_us_in(gate: tuple[str, int]) -> None:
    uri, status = gate
    secret = {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": _WRONG}
    settings = Settings("local", Path(), {"MLFLOW_TRACKING_URI": uri, **secret})
    with pytest.raises(RegistryError) as refused:
        require_tracking_server(settings)
    message, hint = _SAID[status]
    assert (refused.value.message, refused.value.hint) == (message.format(uri), hint)
    pair = base64.b64encode(f"me:{_WRONG}".encode()).decode()
    assert not {_WRONG, pair} & set(f"{refused.value.message} {refused.value.__cause__}".split())


def _fitting_recipe(project: OnlineProject) -> str:
    """Return a recipe that dbt's models have everything for: so far nothing is refused."""
    path = project.settings.root / "good.yaml"
    path.write_text(
        "registered_model_name: good\nexperiment_name: good\ntask: classification\n"
        'spine: labels\nlabel: is_good\nfeatures: ["activity:*"]\n'
        "split: {test: 7d, embargo: 1d}\n"
        "estimator: {class_path: sklearn.linear_model.LogisticRegression}\nscoring: [roc_auc]\n"
    )
    project.write_manifest()
    return str(path)


def test_an_mlflow_server_that_is_down_stops_training_before_anything_is_built(
    project: OnlineProject, plain: RedisServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("REDIS_URL", plain.url)
    done = CliRunner().invoke(app, ["train", _fitting_recipe(project)])
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        f"error: the MLflow server at {uri} does not answer: Connection refused",
        "hint: start it, or check MLFLOW_TRACKING_URI",
    ]


def test_a_password_in_the_address_of_mlflow_is_refused_unseen(
    project: OnlineProject, plain: RedisServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = "https://me:s3cret@mlflow.example.org"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("REDIS_URL", plain.url)
    done = CliRunner().invoke(app, ["train", _fitting_recipe(project)])
    told = "MLFLOW_TRACKING_URI holds a user name or password"
    hint = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead"
    assert done.stderr.splitlines() == [f"error: {told}", f"hint: {hint}"]
    with pytest.raises(ServingError) as refused:
        open_source("models:/m@champion", uri, os.environ)
    assert (refused.value.message, refused.value.hint) == (told, hint)

"""An MLflow server is reached with MLflow's own variables, and hears nobody else's password."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from contract.mlflow_http import MlflowServer
from contract.serving_errors import ConfigurationError, RegistryError
from tests.emulators.certificates import Certificate, make_certificate

_LOGIN = {"MLFLOW_TRACKING_TOKEN": "s3cret"}


class _Answers(BaseHTTPRequestHandler):
    """Leads to `location` while there is one, then answers with an object."""

    def do_GET(self) -> None:
        server: Any = self.server
        server.heard.append(self.headers.get("Authorization"))
        location = server.locations.pop(0) if server.locations else None
        self.send_response(server.status if location is None else 302)
        if location is not None:
            self.send_header("Location", location)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _server(tls: ssl.SSLContext | None = None) -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    server.heard, server.locations, server.status = [], [], 200
    server.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_token_does_not_follow_to_another_origin() -> None:
    with _server() as mlflow, _server() as other:
        mlflow.locations.append(f"{other.url}/elsewhere")
        other.locations.append(f"{mlflow.url}/back")
        assert MlflowServer(mlflow.url, _LOGIN).get("experiments/search") == {}
    assert other.heard == [None]
    assert mlflow.heard == ["Bearer s3cret", None]


def test_a_token_follows_within_the_origin() -> None:
    with _server() as mlflow:
        mlflow.locations.append("/moved")
        assert MlflowServer(mlflow.url, _LOGIN).get("experiments/search") == {}
    assert mlflow.heard == ["Bearer s3cret"] * 2


def test_a_redirection_that_the_login_does_not_follow_is_named(certificate: Certificate) -> None:
    env = {**_LOGIN, "MLFLOW_TRACKING_SERVER_CERT_PATH": str(certificate.authority)}
    with _server() as plain, _server(_tls(certificate)) as secure:
        plain.locations.append(f"{secure.url}/api")
        secure.status = 401
        with pytest.raises(RegistryError, match="redirects to another one, which") as refused:
            MlflowServer(plain.url, env).get("experiments/search")
    assert secure.heard == [None]
    assert refused.value.hint.endswith(f"set MLFLOW_TRACKING_URI={secure.url}")


def test_a_renewed_certificate_is_trusted_without_a_restart(tmp_path: Path) -> None:
    for _ in range(2):  # the second is signed by another authority, and in the same files
        certificate = make_certificate(tmp_path)
        env = {"MLFLOW_TRACKING_SERVER_CERT_PATH": str(certificate.authority)}
        with _server(_tls(certificate)) as mlflow:
            assert MlflowServer(mlflow.url, env).get("experiments/search") == {}


def test_a_redirection_away_from_http_is_refused() -> None:
    with _server() as mlflow:
        mlflow.locations.append("ftp://127.0.0.1/x")
        with pytest.raises(RegistryError, match="redirected away from HTTP"):
            MlflowServer(mlflow.url, _LOGIN).get("experiments/search")


@pytest.fixture(name="certificate", scope="module")
def _certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def _tls(certificate: Certificate, *, mutual: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    if mutual:
        context.load_verify_locations(certificate.authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.parametrize(
    "variable", ["MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]
)
def test_a_private_authority_is_trusted_where_a_variable_names_it(
    certificate: Certificate, variable: str
) -> None:
    with _server(_tls(certificate)) as mlflow:
        env = {variable: str(certificate.authority)}
        assert MlflowServer(mlflow.url, env).get("experiments/search") == {}


def test_nobody_is_asked_for_a_certificate_that_may_be_anything(certificate: Certificate) -> None:
    with _server(_tls(certificate)) as mlflow:
        env = {"MLFLOW_TRACKING_INSECURE_TLS": "true"}
        assert MlflowServer(mlflow.url, env).get("experiments/search") == {}


def test_a_strangers_certificate_is_refused_with_the_variable_to_set(
    certificate: Certificate,
) -> None:
    with _server(_tls(certificate)) as mlflow:
        with pytest.raises(RegistryError, match="certificate verify failed") as refused:
            MlflowServer(mlflow.url, {}).require()
        assert "MLFLOW_TRACKING_SERVER_CERT_PATH" in refused.value.hint
        env = {"MLFLOW_TRACKING_SERVER_CERT_PATH": str(certificate.authority)}
        with pytest.raises(RegistryError) as refused:
            MlflowServer(mlflow.url.replace("127.0.0.1", "localhost"), env).require()
        assert "MLFLOW_TRACKING_URI" in refused.value.hint


def test_a_client_certificate_is_shown(certificate: Certificate, tmp_path: Path) -> None:
    both = tmp_path / "client.pem"
    both.write_bytes(certificate.certificate.read_bytes() + certificate.key.read_bytes())
    env = {"MLFLOW_TRACKING_SERVER_CERT_PATH": str(certificate.authority)}
    with _server(_tls(certificate, mutual=True)) as mlflow:
        with pytest.raises(RegistryError) as refused:
            MlflowServer(mlflow.url, env).require()
        assert "MLFLOW_TRACKING_CLIENT_CERT_PATH" in refused.value.hint
        env["MLFLOW_TRACKING_CLIENT_CERT_PATH"] = str(both)
        assert MlflowServer(mlflow.url, env).get("experiments/search") == {}


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"MLFLOW_TRACKING_SERVER_CERT_PATH": "/no/ca.pem"}, "/no/ca.pem: no certificates"),
        ({"MLFLOW_TRACKING_CLIENT_CERT_PATH": "/no/me.pem"}, "/no/me.pem: no certificate with"),
        ({"MLFLOW_TRACKING_INSECURE_TLS": "maybe"}, "neither true nor false"),
        (
            {
                "MLFLOW_TRACKING_INSECURE_TLS": "1",
                "MLFLOW_TRACKING_SERVER_CERT_PATH": "/no/ca.pem",
            },
            "both set",
        ),
    ],
)
def test_what_the_variables_cannot_mean_is_told(env: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        MlflowServer("https://127.0.0.1:1", env).require()


def test_a_server_that_sleeps_is_waited_for_as_long_as_mlflows_own_variable_says() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        server = MlflowServer(url, {"MLFLOW_HTTP_REQUEST_TIMEOUT": "1"})
        began = time.monotonic()
        with pytest.raises(RegistryError, match="timed out"):
            server.require()
    assert 1 <= time.monotonic() - began < 8  # by itself it waits for 10 s


@pytest.mark.parametrize("text", ["0", "soon", "-1", "1.5"])
def test_a_timeout_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="MLFLOW_HTTP_REQUEST_TIMEOUT"):
        MlflowServer("http://127.0.0.1:1", {"MLFLOW_HTTP_REQUEST_TIMEOUT": text})

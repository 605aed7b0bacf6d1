"""Requests to Cloud Run carry the account's token, which Google's metadata server issues.

A server of this test stands in for the metadata server, at the address that Google's library takes
from GCE_METADATA_HOST.
"""

from __future__ import annotations

import base64
import importlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from google.auth.compute_engine import _metadata as _metadata_library

from runner.commands.cloud.api_client import ApiClient
from runner.errors import RunnerError

ADDRESS = "https://newest---api-rf-123456789.us-central1.run.app"


def _part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


TOKEN = f"{_part({'alg': 'none'})}.{_part({'exp': 2_000_000_000, 'iat': 1})}.signed"


class _Metadata(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        self.server.audiences += parse_qs(asked.query).get("audience", [])  # type: ignore[attr-defined]
        known = asked.path.endswith("/identity")
        self.send_response(200)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "text/plain" if known else "application/json")
        self.end_headers()
        self.wfile.write(TOKEN.encode() if known else b'{"email": "ml-runner@p", "scopes": []}')

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(name="metadata")
def _metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), _Metadata) as server:
        server.audiences = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        host = f"127.0.0.1:{server.server_port}"
        for name in ("GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP"):
            monkeypatch.setenv(name, host)
        _reload_google()
        yield server
        server.shutdown()
        thread.join()
    monkeypatch.undo()
    _reload_google()


def _reload_google() -> None:
    # It reads the address once, when it is imported.
    importlib.reload(_metadata_library)


def test_the_tokens_audience_is_the_service_whatever_its_tag(metadata: HTTPServer) -> None:
    client = ApiClient(ADDRESS, "a-key, another")
    assert client._headers["Authorization"] == f"Bearer {TOKEN}"
    assert client._headers["X-API-Key"] == "a-key"
    audiences = set(metadata.audiences)  # type: ignore[attr-defined]
    assert audiences == {"https://api-rf-123456789.us-central1.run.app"}


def test_without_a_service_account_there_is_no_token(
    metadata: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere.json")
    with pytest.raises(RunnerError, match="no identity token") as refused:
        ApiClient(ADDRESS)
    assert "smoke-<recipe>" in refused.value.hint


def test_nothing_is_asked_for_another_address() -> None:
    assert "Authorization" not in ApiClient("http://127.0.0.1:8000")._headers

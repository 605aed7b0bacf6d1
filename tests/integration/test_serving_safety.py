"""Who may ask, how much, and what they learn when it goes wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from contract.redis_address import RedisAddress
from tests.conftest import free_port
from tests.serving_bundles import OnlineStore, write_linear_bundle
from tests.serving_process import Serving, predict, serving

pytestmark = pytest.mark.servers

ROW = {"user_id": 1, "category_id": "toys"}
OLD, NEW = "old-key-0123456789", "new-key-0123456789"


@pytest.fixture(name="bundle", scope="module")
def _bundle(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisAddress) -> Path:
    OnlineStore(redis_server.url).write_user(1, "toys")
    folder = tmp_path_factory.mktemp("bundle")
    write_linear_bundle(folder)
    return folder


def test_with_keys_only_requests_with_one_of_them_are_answered(
    bundle: Path, redis_server: RedisAddress
) -> None:
    keys = f"{OLD},{NEW}"
    with serving(bundle, redis_server.url, SERVING_API_KEYS=keys) as server:
        for headers in ({"X-API-Key": OLD}, {"Authorization": f"Bearer {NEW}"}):
            with server.client(**headers) as client:
                assert predict(client, ROW).status_code == 200
        for headers in ({}, {"X-API-Key": "x"}, {"Authorization": f"Basic {OLD}"}):
            with server.client(**headers) as client:
                refused = predict(client, ROW)
                assert refused.status_code == 401
                assert refused.headers["WWW-Authenticate"] == "Bearer"
                assert client.get("/model").status_code == 401
                assert client.get("/metrics").status_code == 401
                assert client.get("/openapi.json").status_code == 401
                assert client.get("/health").status_code == 200
                assert client.get("/docs").status_code == 200
        with server.client(**{"X-API-Key": OLD}) as client:
            document = client.get("/openapi.json").json()
        assert document["security"] == [{"ApiKey": []}, {"Bearer": []}]
        server.stop()
        assert OLD not in str(server.lines)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"SERVING_HOST": "0.0.0.0"}, "error: refusing to listen on 0.0.0.0 without an API key"),
        ({"SERVING_MODEL": "models:/m"}, "error: 'models:/m' is not a model"),
        ({"SERVING_MODEL": "/nowhere"}, "error: /nowhere/serving.json: cannot be read"),
        ({"REDIS_URL": "nonsense"}, "error: REDIS_URL is not of the form"),
    ],
)
def test_a_server_that_cannot_start_says_why_and_what_to_do(
    bundle: Path, redis_server: RedisAddress, env: dict[str, str], message: str
) -> None:
    server = Serving(**{"SERVING_MODEL": str(bundle), "REDIS_URL": redis_server.url} | env)
    assert server.wait() == 1
    told = [str(line) for line in server.lines if not isinstance(line, dict)]
    assert told[0].startswith(message)
    assert told[1].startswith("hint: ")
    assert len(told) == 2


def test_a_port_in_use_is_told(bundle: Path, redis_server: RedisAddress) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = Serving(
            SERVING_MODEL=str(bundle), REDIS_URL=redis_server.url, SERVING_PORT=str(port)
        )
        assert server.wait() == 1
    assert f"cannot listen on 127.0.0.1 port {port} (Address already in use)" in str(server.lines)


def test_under_another_server_a_public_address_is_refused_without_keys(
    bundle: Path, redis_server: RedisAddress
) -> None:
    """`uvicorn --factory serving.app:app_from_env --host 0.0.0.0` cannot open the door either."""
    address = _own_address()
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "serving.app:app_from_env"]
    process = subprocess.Popen(
        [*command, "--host", "0.0.0.0", "--port", str(port), "--log-level", "error"],
        env=os.environ | {"SERVING_MODEL": str(bundle), "REDIS_URL": redis_server.url},
        stderr=subprocess.DEVNULL,
    )
    try:
        transport = httpx.HTTPTransport(retries=10)
        with httpx.Client(transport=transport) as client:
            while client.get(f"http://127.0.0.1:{port}/ready").status_code != 200:
                time.sleep(0.01)
            assert client.get(f"http://127.0.0.1:{port}/model").status_code == 200
            refused = client.get(f"http://{address}:{port}/model")
    finally:
        process.terminate()
        process.wait(20)
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "forbidden"


def _own_address() -> str:
    """Return an address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only picks a route
        except OSError:
            pytest.skip("this machine has a loopback address only")
        return str(probe.getsockname()[0])


def test_a_slow_body_is_given_up_with_503(bundle: Path, redis_server: RedisAddress) -> None:
    with serving(bundle, redis_server.url, SERVING_TIMEOUT_SECONDS="0.2") as server:
        answer = _half_a_request(server)
    assert b" 503 " in answer
    assert b"retry-after: 1" in answer
    assert b'"timeout"' in answer


def _half_a_request(server: Serving) -> bytes:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        answer = b""
        while not answer.endswith(b"}"):
            answer += sock.recv(4096)
        return answer


def test_a_client_that_goes_away_leaves_nothing_behind(
    bundle: Path, redis_server: RedisAddress
) -> None:
    with serving(bundle, redis_server.url) as server, server.client() as client:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
        while 'route="/predict",status="499"' not in (text := client.get("/metrics").text):
            time.sleep(0.01)
        assert "serving_in_flight 0.0" in text


def test_ctrl_c_stops_at_once_with_130(bundle: Path, redis_server: RedisAddress) -> None:
    with serving(bundle, redis_server.url, SERVING_DRAIN_SECONDS="60") as server:
        server.process.send_signal(signal.SIGINT)
        assert server.wait() == 130

"""What a client may send and leave unread, and what becomes of who goes beyond."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from contract.redis_address import RedisAddress
from tests.serving_bundles import OnlineStore, write_linear_bundle
from tests.serving_process import TIMEOUT, Serving, predict, serving

pytestmark = pytest.mark.servers

KEY = "a-key-of-the-tests"
ROW = {"user_id": 1, "category_id": "toys"}
BODY = b'{"entity_rows": [{"user_id": 1, "category_id": "toys"}]}'
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
MEBIBYTE = b"x" * 2**20


@pytest.fixture(name="bundle", scope="module")
def _bundle(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisAddress) -> Path:
    OnlineStore(redis_server.url).write_user(1, "toys")
    folder = tmp_path_factory.mktemp("bundle")
    write_linear_bundle(folder)
    return folder


@pytest.fixture(name="server", scope="module")
def _server(bundle: Path, redis_server: RedisAddress) -> Iterator[Serving]:
    with serving(bundle, redis_server.url, SERVING_API_KEYS=KEY) as server:
        yield server


def _connect(server: Serving) -> socket.socket:
    host, _, port = server.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), TIMEOUT)


def _answer(connection: socket.socket) -> bytes:
    """Return what comes until the server closes."""
    answer = b""
    with suppress(ConnectionResetError):  # it had not read everything
        while part := connection.recv(65_536):
            answer += part
    return answer


@pytest.mark.parametrize(
    ("head", "piece", "status"),
    [
        (b"GET /health HTTP/1.1\r\nX: ", MEBIBYTE, b"431"),
        (b"GET /health HTTP/1.1\r\n", b"X: y\r\n" * 2**17, b"431"),
        (b"GET /", MEBIBYTE, b"431"),
        (CHUNKED + b"1\r\n{\r\n0\r\nX: ", MEBIBYTE, b"431"),
        (CHUNKED + b"1\r\n{\r\n0\r\n", b"X: y\r\n" * 2**17, b"431"),
        (CHUNKED + b"1;", MEBIBYTE, b"431"),
    ],
    ids=["header", "headers", "URL", "trailer", "trailers", "chunk extension"],
)
def test_what_does_not_end_is_refused_before_anybody_is_asked_for_a_key(
    server: Serving, head: bytes, piece: bytes, status: bytes
) -> None:
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    with _connect(server) as connection:
        connection.sendall(head)
        with suppress(ConnectionError):
            for _ in range(64):
                connection.sendall(piece)
            pytest.fail("64 MiB were taken")
        with suppress(ConnectionError):
            answer = connection.recv(65_536)
            assert not answer or answer.split()[1] in {status, b"401"}
    assert process.memory_info().rss - before < 16 * 2**20


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (b"GET /health HTTP/1.1\r\nX: " + b"x" * 40_000, 431, b"headers_too_large"),
        (b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 101, 431, b"headers_too_large"),
        (b"GET /" + b"x" * 8_192 + b" HTTP/1.1", 414, b"url_too_long"),
    ],
)
def test_a_head_that_is_too_large_is_refused_in_the_one_shape(
    server: Serving, head: bytes, status: int, code: bytes
) -> None:
    with _connect(server) as connection:
        connection.sendall(head + b"\r\n\r\n")
        answer = _answer(connection)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b'{"error":{"code":"%b"' % code in answer


def test_a_head_of_the_usual_size_is_answered(server: Serving) -> None:
    with server.client(**{"X-API-Key": KEY, "Cookie": "x" * 16_000}) as client:
        assert predict(client, ROW).status_code == 200


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_key_in_a_trailer_is_none(server: Serving, pieces: int) -> None:
    chunks = b"%x\r\n%b\r\n0\r\nX-API-Key: %b\r\n\r\n" % (len(BODY), BODY, KEY.encode())
    cut = len(CHUNKED) + 3 if pieces == 2 else None
    request = CHUNKED + chunks
    with _connect(server) as connection:
        connection.sendall(request[:cut])
        if cut:
            connection.sendall(request[cut:])
        assert connection.recv(65_536).startswith(b"HTTP/1.1 401 ")


def test_trailers_beside_a_key_do_not_matter(server: Serving) -> None:
    key = b"X-API-Key: %b\r\n" % KEY.encode()
    head = CHUNKED.removesuffix(b"\r\n") + key + b"\r\n"
    with _connect(server) as connection:
        connection.sendall(head + b"%x\r\n%b\r\n0\r\nX: y\r\n\r\n" % (len(BODY), BODY))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_pipelined_requests_without_end_are_refused(server: Serving) -> None:
    with _connect(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1_000)
        answer = _answer(connection)
    assert answer.count(b"HTTP/1.1 200 ") <= 20
    assert b"more than 16 requests before an answer" in answer or answer == b""


def test_silent_connections_shut_nobody_out(bundle: Path, redis_server: RedisAddress) -> None:
    limits = {"SERVING_MAX_CONNECTIONS": "10"}
    with serving(bundle, redis_server.url, **limits) as server, ExitStack() as stack:
        used = stack.enter_context(server.client())
        assert predict(used, ROW).status_code == 200
        for _ in range(40):
            stack.enter_context(_connect(server))
        with server.client() as client:
            assert client.get("/ready").status_code == 200
            text = client.get("/metrics").text
        assert "serving_connections 10.0" in text
        assert 'serving_connections_closed_total{reason="idle"} 3' in text  # 30 and more
        kept = stack.enter_context(server.client())
        assert predict(kept, ROW).status_code == 200
        assert predict(used, ROW).status_code == 200


def test_connections_that_all_wait_for_an_answer_leave_no_room(
    bundle: Path, redis_server: RedisAddress
) -> None:
    limits = {"SERVING_MAX_CONNECTIONS": "2"}
    with serving(bundle, redis_server.url, **limits) as server, ExitStack() as stack:
        for _ in range(2):
            connection = stack.enter_context(_connect(server))
            connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n")
            assert b"100 Continue" in connection.recv(4_096)
        answer = _answer(stack.enter_context(_connect(server)))
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"too_many_connections"' in answer


def test_fewer_files_than_connections_are_told() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (80, 100))\n"
        "from serving.server import _file_limit\n"
        "print(_file_limit(20), _file_limit(1000), resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "20 36 (100, 100)\n"
    assert "raise the limit of open files (ulimit -n) from 100 to 1064" in done.stderr


def test_clients_that_leave_are_no_fault(bundle: Path, redis_server: RedisAddress) -> None:
    large = HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * 70_000
    asset = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serving(bundle, redis_server.url) as server:
        for sent in (
            large,
            asset,
            asset * 3,
            b"GET /model HTTP/1.1\r\nHost: localhost\r\n\r\n" * 9,
        ):
            for _ in range(20):
                with _connect(server) as connection:
                    connection.sendall(sent)
        with server.client() as client:
            assert predict(client, ROW).status_code == 200
        server.stop()
    assert [line for line in server.lines if line["level"] == "error"] == []  # type: ignore[index]
    statuses = {line["status"] for line in server.lines if line["message"] == "request"}  # type: ignore[index]
    assert 499 in statuses

"""However a request comes over its connection, it is answered, in order and the same."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from email.message import Message
from http.client import parse_headers
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from contract.redis_address import RedisAddress
from tests.serving_bundles import OnlineStore, write_linear_bundle
from tests.serving_process import TIMEOUT, Serving, serving

pytestmark = pytest.mark.servers

ORDERS = (1, 5, 9)


@pytest.fixture(name="server", scope="module")
def _server(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisAddress
) -> Iterator[Serving]:
    folder: Path = tmp_path_factory.mktemp("bundle")
    write_linear_bundle(folder, task="regression")
    store = OnlineStore(redis_server.url)
    for orders in ORDERS:
        store.write_user(orders, "toys", orders=orders)
    with serving(folder, redis_server.url) as server:
        yield server


@pytest.fixture(name="connection")
def _connection(server: Serving) -> Iterator[socket.socket]:
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), TIMEOUT) as connection:
        yield connection


def _request(user_id: int, *headers: str, path: str = "/predict", version: str = "1.1") -> bytes:
    body = json.dumps({"entity_rows": [{"user_id": user_id, "category_id": "toys"}]})
    head = [f"POST {path} HTTP/{version}", "Host: localhost", "Content-Type: application/json"]
    head += [f"Content-Length: {len(body)}", *headers, "", body]
    return "\r\n".join(head).encode()


class _Answer(NamedTuple):
    status: int
    headers: Message
    content: Any


def _answers(connection: socket.socket, count: int) -> list[_Answer]:
    """Return the next answers."""
    answers = []
    with connection.makefile("rb") as file:
        for _ in range(count):
            status = int(file.readline().split()[1])
            headers = parse_headers(file)
            content = json.loads(file.read(int(headers["content-length"])))
            answers.append(_Answer(status, headers, content))
    return answers


def _prediction(answer: _Answer) -> float:
    assert answer.status == 200, answer
    [prediction] = answer.content["predictions"]
    value: float = prediction["prediction"]
    return value


def test_requests_on_one_connection_are_answered_one_after_the_other(
    connection: socket.socket,
) -> None:
    for orders in ORDERS:
        connection.sendall(_request(orders))
        [answer] = _answers(connection, 1)
        assert _prediction(answer) == orders + 1.5
        assert answer.headers["date"]
        assert answer.headers["x-request-id"]


def test_pipelined_requests_are_answered_in_their_order(connection: socket.socket) -> None:
    unknown = _request(1, path="/unknown")
    connection.sendall(b"".join(map(_request, ORDERS)) + unknown + _request(5))
    *first, not_found, last = _answers(connection, 5)
    assert [_prediction(answer) for answer in (*first, last)] == [2.5, 6.5, 10.5, 6.5]
    assert not_found.status == 404


@pytest.mark.parametrize("cut", [1, 40, -1])
def test_a_request_in_pieces_is_answered(connection: socket.socket, cut: int) -> None:
    request = _request(5)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(request[:cut])
    other = socket.create_connection(connection.getpeername(), TIMEOUT)
    with other:  # once this is answered, the first piece has been read
        other.sendall(_request(9))
        assert _prediction(_answers(other, 1)[0]) == 10.5
    connection.sendall(request[cut:])
    assert _prediction(_answers(connection, 1)[0]) == 6.5


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(connection: socket.socket) -> None:
    head, _, body = _request(5, "Expect: 100-continue").partition(b"\r\n\r\n")
    connection.sendall(head + b"\r\n\r\n")
    assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(body)
    assert _prediction(_answers(connection, 1)[0]) == 6.5


@pytest.mark.parametrize(
    "request_", [_request(5, version="1.0"), _request(5, "Connection: close")], ids=["1.0", "close"]
)
def test_a_connection_that_is_not_kept_is_closed_after_the_answer(
    connection: socket.socket, request_: bytes
) -> None:
    connection.sendall(request_)
    [answer] = _answers(connection, 1)
    assert answer.headers["connection"] == "close"
    assert _prediction(answer) == 6.5
    assert connection.recv(1) == b""


def test_an_error_is_told_and_the_connection_kept(connection: socket.socket) -> None:
    connection.sendall(_request(5).replace(b"entity_rows", b"entity_cols"))
    [answer] = _answers(connection, 1)
    assert answer.status == 422
    assert answer.content["error"]["code"] == "invalid_request"
    assert answer.content["error"]["request_id"] == answer.headers["x-request-id"]
    connection.sendall(_request(5))
    assert _prediction(_answers(connection, 1)[0]) == 6.5


def _closed(connection: socket.socket) -> bool:
    """Return whether the server has closed the connection after what was read."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:  # it closed before it had read everything
        return True


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"nonsense\r\n\r\n", "not an HTTP/1.1 request: Invalid method encountered"),
        (b"\x16\x03\x01\x02\x00", "not an HTTP/1.1 request: Invalid method encountered"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "this server does not speak HTTP/2; send HTTP/1.1"),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", "the URL cannot be read"),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "not an HTTP/1.1 request: Transfer-Encoding can't be present with Content-Length",
        ),
    ],
    ids=["nonsense", "TLS", "HTTP/2", "CONNECT", "two lengths"],
)
def test_what_is_no_request_is_refused_after_the_answers_before_it(
    connection: socket.socket, sent: bytes, message: str
) -> None:
    connection.sendall(_request(5) + _request(9) + sent)
    *answered, refused = _answers(connection, 3)
    assert [_prediction(answer) for answer in answered] == [6.5, 10.5]
    assert refused.status == 400
    assert refused.headers["connection"] == "close"
    request_id = refused.headers["x-request-id"]
    error = {"code": "malformed_request", "message": message, "request_id": request_id}
    assert refused.content == {"error": error}
    assert _closed(connection)


def test_what_is_no_request_is_counted_and_logged(
    server: Serving, connection: socket.socket
) -> None:
    connection.sendall(b"nonsense\r\n\r\n")
    [refused] = _answers(connection, 1)
    with server.client() as client:
        text = client.get("/metrics").text
    assert 'serving_request_seconds_count{route="unreadable",status="400"}' in text
    request_id = refused.headers["x-request-id"]
    while not (line := next((x for x in server.lines if request_id in str(x)), None)):
        pass
    assert (line["status"], line["route"]) == (400, "unreadable")  # type: ignore[index]


@pytest.mark.parametrize("cut", [None, -10], ids=["at once", "in pieces"])
def test_a_body_that_is_no_chunked_one_is_refused(
    connection: socket.socket, cut: int | None
) -> None:
    head = _request(5).partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"
    sent = head + b"1\r\n{\r\n" + b"no chunk\r\n"
    connection.sendall(sent[:cut])
    if cut:
        other = socket.create_connection(connection.getpeername(), TIMEOUT)
        with other:  # once this is answered, the first piece has been read
            other.sendall(_request(9))
            _answers(other, 1)
        connection.sendall(sent[cut:])
    [refused] = _answers(connection, 1)
    assert (refused.status, refused.content["error"]["code"]) == (400, "malformed_request")
    assert "Invalid character in chunk size" in refused.content["error"]["message"]
    assert _closed(connection)


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_an_upgrade_that_is_not_offered_is_ignored(
    connection: socket.socket, protocol: str
) -> None:
    """Java's HttpClient and `curl --http2` ask for one and are content without it."""
    upgrade = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}")
    for _ in range(2):
        connection.sendall(_request(5, *upgrade) + _request(9))
        assert [_prediction(answer) for answer in _answers(connection, 2)] == [6.5, 10.5]


def test_an_upgrade_whose_body_follows_later_is_ignored(connection: socket.socket) -> None:
    head, _, body = _request(5, "Connection: Upgrade", "Upgrade: h2c").partition(b"\r\n\r\n")
    connection.sendall(head + b"\r\n\r\n")
    other = socket.create_connection(connection.getpeername(), TIMEOUT)
    with other:  # once this is answered, the head has been read
        other.sendall(_request(9))
        _answers(other, 1)
    connection.sendall(body)
    assert _prediction(_answers(connection, 1)[0]) == 6.5


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_probes_are_answered_without_a_body_on_head(server: Serving, path: str) -> None:
    with server.client() as client:
        asked = client.head(path)
        assert (asked.status_code, asked.content) == (200, b"")
        got = client.get(path)
        assert asked.headers["content-length"] == got.headers["content-length"]

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


def test_what_is_no_http_is_refused(connection: socket.socket) -> None:
    connection.sendall(_request(5) + b"nonsense\r\n\r\n")
    answer = b""
    while part := connection.recv(4096):
        answer += part
    assert b"400 Bad Request" in answer


def test_a_client_that_asks_for_http_2_loses_its_body_and_is_told(
    connection: socket.socket,
) -> None:
    connection.sendall(_request(5, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"))
    [answer] = _answers(connection, 1)
    assert answer.status == 422
    assert answer.content["error"]["message"] == "the body is not JSON"
    connection.sendall(_request(5))
    assert _prediction(_answers(connection, 1)[0]) == 6.5

"""What other clients see while some do their worst; benchmarks/serving_attack.py does it longer."""

from __future__ import annotations

import json
import selectors
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from benchmarks.serving_attack import ATTACKS, attack
from contract.redis_address import RedisAddress
from tests.serving_bundles import OnlineStore, write_linear_bundle
from tests.serving_process import Serving, serving

pytestmark = pytest.mark.servers


@pytest.fixture(name="server", scope="module")
def _server(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisAddress
) -> Iterator[Serving]:
    OnlineStore(redis_server.url).write_user(1, "toys")
    folder: Path = tmp_path_factory.mktemp("bundle")
    write_linear_bundle(folder)
    # The machine may be busy with other tests: what is asked here is not how long it takes.
    limits = {"SERVING_TIMEOUT_SECONDS": "30", "SERVING_REDIS_TIMEOUT_SECONDS": "10"}
    with serving(folder, redis_server.url, **limits) as server:
        yield server


@pytest.mark.parametrize("name", ATTACKS)
def test_others_are_answered_under_attack(server: Serving, name: str) -> None:
    """The benchmark says how long it takes; here nobody else is refused, and memory is bounded."""
    report = attack(server.url, server.process.pid, name, seconds=1.5, connections=250)
    for path, seen in report["others"].items():
        assert seen["failed"] == 0, (path, report)
        assert seen["asked"] > 0, (path, report)
    assert report["rss_mb"] - report["rss_before_mb"] < 350, report


def test_small_requests_are_answered_before_the_large_ones_that_came_first(server: Serving) -> None:
    """All are there before the server sees one: it is stopped meanwhile, so no clock matters."""
    sizes = [1_000] * 40 + [1] * 10
    server.process.send_signal(signal.SIGSTOP)
    try:
        clients = [_asking(server.url, rows) for rows in sizes]
    finally:
        server.process.send_signal(signal.SIGCONT)
    order = _order_of_answers(clients)
    last_small = max(order.index(client) for client in range(40, 50))
    assert last_small < len(order) // 2, order


def _asking(url: str, rows: int) -> socket.socket:
    address = urlsplit(url)
    body = json.dumps({"entity_rows": [{"user_id": 1}] * rows}).encode()
    client = socket.create_connection((address.hostname, address.port))
    head = f"POST /predict HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n"
    kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    client.sendall((head + kind).encode() + body)
    return client


def _order_of_answers(clients: list[socket.socket]) -> list[int]:
    """Return the clients in the order in which their answers began."""
    order: list[int] = []
    with selectors.DefaultSelector() as waiting:
        for number, client in enumerate(clients):
            waiting.register(client, selectors.EVENT_READ, number)
        while waiting.get_map():
            # Who is seen at once came in no order that we know: the small ones count as first.
            for key, _ in sorted(waiting.select(), key=lambda event: -event[0].data):
                assert clients[key.data].recv(12) == b"HTTP/1.1 200"
                order.append(key.data)
                waiting.unregister(key.fileobj)
    for client in clients:
        client.close()
    return order

"""An HTTP load generator in one thread: keep-alive connections, one request each at a time.

    python -m benchmarks.serving_load URL CONNECTIONS SECONDS < bodies.jsonl

Prints {"requests", "seconds", "errors", "p50_ms", "p99_ms"} as JSON. It spends 20 µs a request,
so that on two cores the server is what is measured. The bodies, one a line, take turns; without
one it asks by GET. An answer other than 200 is an error.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import uvloop


class Client(asyncio.Protocol):
    """One connection that asks again as soon as it is answered."""

    def __init__(self, requests: Iterator[bytes], latencies: list[float], until: float) -> None:
        self._requests = requests
        self._latencies = latencies
        self._until = until
        self._buffer = b""
        self.errors = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._buffer = b""
        self._sent = time.perf_counter()
        self._transport.write(next(self._requests))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Ask again once the answer is whole."""
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or len(body) < _length(head):
            return
        now = time.perf_counter()
        self._latencies.append(now - self._sent)
        self.errors += not head.startswith(b"HTTP/1.1 200")
        if now < self._until:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Count a connection that ended early as an error."""
        self.errors += time.perf_counter() < self._until
        self.done.set_result(None)


def _length(head: bytes) -> int:
    lower = head.lower()
    at = lower.index(b"content-length:") + 15
    return int(lower[at:].split(b"\r\n", 1)[0])


async def measure(
    url: str, bodies: list[bytes], connections: int, seconds: float
) -> dict[str, float]:
    """Return what `connections` clients saw for `seconds`."""
    parts = urlsplit(url)
    head = f"{{}} {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
    post = head.format("POST") + "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n"
    requests = itertools.cycle(
        [post.format(len(body)).encode() + body for body in bodies]
        or [f"{head.format('GET')}\r\n".encode()]
    )
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    clients = []
    for _ in range(connections):
        _, client = await loop.create_connection(
            lambda: Client(requests, latencies, started + seconds), parts.hostname, parts.port
        )
        clients.append(client)
    await asyncio.gather(*(client.done for client in clients))
    elapsed = time.perf_counter() - started
    latencies.sort()
    return {
        "requests": len(latencies),
        "seconds": elapsed,
        "errors": sum(client.errors for client in clients),
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
    }


if __name__ == "__main__":
    content = sys.stdin.buffer.read().splitlines()
    result = uvloop.run(measure(sys.argv[1], content, int(sys.argv[2]), float(sys.argv[3])))
    json.dump(result, sys.stdout)

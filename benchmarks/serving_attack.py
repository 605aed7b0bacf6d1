"""Attack a running server, and report what its other clients saw meanwhile.

    python -m benchmarks.serving_attack URL PID [--seconds 5] [--connections 250] [--only rows,idle]

Each attack runs alone, from connections of its own. Meanwhile another process opens a new
connection for each `/health`, `/ready` and prediction of one row. "p99" is that of the attack's
own answers of status 200, from the request's first byte; RSS is the server's largest. "CPU share"
is how much of one core the server got: far below 1, times say more of the machine than of the
server. Attack only what is yours.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import psutil

_PIECE = b"x" * 16_384


@dataclass
class Tally:
    """What the attack itself has seen."""

    host: str
    port: int
    row: dict[str, Any]
    until: float
    statuses: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    sent_bytes: int = 0

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return time.perf_counter() >= self.until

    def predict(self, rows: int, **fields: Any) -> bytes:
        """Return a request for so many rows."""
        body = json.dumps({"entity_rows": [self.row] * rows, **fields}).encode()
        return self.post(body)

    def post(self, body: bytes) -> bytes:
        """Return a prediction request with this body."""
        head = f"POST /predict HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
        kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return (head + kind).encode() + body

    def get(self, path: str) -> bytes:
        """Return a request for this path."""
        return f"GET {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n\r\n".encode()


Attack = Callable[[Tally, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _ask(
    tally: Tally, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> None:
    started = time.perf_counter()
    writer.write(request)
    tally.sent_bytes += len(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    await reader.readexactly(length)
    status = head.split(b" ", 2)[1].decode()
    tally.statuses[status] += 1
    if status == "200":
        tally.latencies.append(time.perf_counter() - started)


async def rows(tally: Tally, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ask for 1,000 rows again and again."""
    request = tally.predict(1_000)
    while not tally.over:
        await _ask(tally, reader, writer, request)


async def garbage(tally: Tally, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a mebibyte that is no JSON only at its end."""
    request = tally.post(b"[" + b'{"a":1},' * 131_000)
    while not tally.over:
        await _ask(tally, reader, writer, request)


async def _pour(tally: Tally, writer: asyncio.StreamWriter, piece: bytes) -> None:
    while not tally.over:
        writer.write(piece)
        await writer.drain()
        tally.sent_bytes += len(piece)


async def header(tally: Tally, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a header that does not end."""
    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ")
    await _pour(tally, writer, _PIECE)


async def trailer(
    tally: Tally, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Send a trailer that does not end."""
    writer.write(
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nX: "
    )
    await _pour(tally, writer, _PIECE)


async def unread(tally: Tally, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ask for much, and read nothing."""
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    request = tally.predict(1_000, include_features=True)
    asset = tally.get("/docs/assets/swagger-ui-bundle.js")
    for _ in range(4):
        writer.write(request + asset)
        await writer.drain()
        tally.sent_bytes += len(request + asset)
    while not tally.over and not writer.transport.is_closing():
        await asyncio.sleep(0.05)


async def pipeline(
    tally: Tally, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Send thousands of requests without reading an answer."""
    await _pour(tally, writer, tally.get("/health") * 2_000)


async def idle(tally: Tally, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Say nothing."""
    while not tally.over and not reader.at_eof():
        with suppress(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.5)


ATTACKS: dict[str, tuple[Attack, int]] = {
    "rows": (rows, 1),
    "garbage": (garbage, 1),
    "header": (header, 1),
    "trailer": (trailer, 1),
    "unread": (unread, 1),
    "pipeline": (pipeline, 1),
    "idle": (idle, 6),
}
"""Each attack, and how many times `--connections` it opens."""


async def _keep_attacking(attack: Attack, tally: Tally) -> None:
    """Run it on one connection after the other until the time is up."""
    while not tally.over:
        try:
            reader, writer = await asyncio.open_connection(tally.host, tally.port)
        except OSError:
            tally.statuses["not connected"] += 1
            await asyncio.sleep(0.05)
            continue
        try:
            async with asyncio.timeout(max(0.1, tally.until + 2 - time.perf_counter())):
                await attack(tally, reader, writer)
        except (OSError, asyncio.IncompleteReadError, ValueError):
            tally.statuses["closed"] += 1
        except TimeoutError:
            tally.statuses["unanswered"] += 1
        finally:
            writer.transport.abort()


async def _attack(name: str, tally: Tally, connections: int, process: psutil.Process) -> int:
    """Return the server's largest RSS under the attack."""
    attack, times = ATTACKS[name]
    largest = 0
    under_way = [_keep_attacking(attack, tally) for _ in range(connections * times)]
    attackers = asyncio.gather(*under_way)
    while not attackers.done():
        largest = max(largest, process.memory_info().rss)
        await asyncio.wait([attackers], timeout=0.05)
    return largest


def probe(url: str, row: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return what a client with a new connection for each request sees, by path."""
    parts = urlsplit(url)
    body = json.dumps({"entity_rows": [row]})
    until = time.perf_counter() + seconds
    times: dict[str, list[float]] = {"/health": [], "/ready": [], "/predict": []}
    failures: Counter[str] = Counter()
    while time.perf_counter() < until:
        for path, seen in times.items():
            started = time.perf_counter()
            connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
            try:
                headers = {"Content-Type": "application/json"}
                if path == "/predict":
                    connection.request("POST", path, body, headers)
                else:
                    connection.request("GET", path)
                answer = connection.getresponse()
                answer.read()
                failures[path] += answer.status != 200
            except (OSError, http.client.HTTPException):
                failures[path] += 1
            finally:
                connection.close()
            seen.append(time.perf_counter() - started)
        time.sleep(0.02)
    return {
        path: {
            "asked": len(seen),
            "failed": failures[path],
            "p50_ms": _milliseconds(seen, 0.5),
            "max_ms": _milliseconds(seen, 1.0),
        }
        for path, seen in times.items()
    }


def _milliseconds(seconds: list[float], share: float) -> float:
    if not seconds:
        return 0.0
    ordered = sorted(seconds)
    return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000, 1)


def attack(url: str, pid: int, name: str, seconds: float, connections: int) -> dict[str, Any]:
    """Return the attack's own figures, the server's RSS and what the probe saw."""
    with urlopen(f"{url}/openapi.json") as answer:
        schemas = json.load(answer)["components"]["schemas"]
    row = schemas["EntityRow"]["examples"][0]
    parts = urlsplit(url)
    process = psutil.Process(pid)
    before, cpu_before = process.memory_info().rss, sum(process.cpu_times()[:2])
    command = [sys.executable, "-m", "benchmarks.serving_attack", url, "0"]
    command += ["--probe", json.dumps(row), "--seconds", str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as prober:
        tally = Tally(str(parts.hostname), parts.port or 80, row, time.perf_counter() + seconds)
        largest = asyncio.run(_attack(name, tally, connections, process))
        cpu_share = (sum(process.cpu_times()[:2]) - cpu_before) / seconds
        probed, _ = prober.communicate()
    return {
        "attack": name,
        "cpu_share": round(cpu_share, 2),
        "statuses": dict(tally.statuses),
        "sent_mb": round(tally.sent_bytes / 2**20, 1),
        "p99_ms": _milliseconds(tally.latencies, 0.99),
        "rss_mb": round(largest / 2**20),
        "rss_before_mb": round(before / 2**20),
        "others": json.loads(probed),
    }


def main() -> None:
    """Run what the command line asks for; print one JSON object an attack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("pid", type=int)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=250)
    parser.add_argument("--only", default=",".join(ATTACKS))
    parser.add_argument("--probe", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.probe:
        json.dump(probe(args.url, json.loads(args.probe), args.seconds), sys.stdout)
        return
    for name in args.only.split(","):
        report = attack(args.url, args.pid, name, args.seconds, args.connections)
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()

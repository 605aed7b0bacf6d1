"""Which requests are answered without ASGI: those that have come whole, and no others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from contract.serving_settings import Limits
from serving.http.api_keys import ApiKeys
from serving.http.asgi import json_answer, send_answer
from serving.http.connections import Connections
from serving.http.guard import Lifecycle, RequestGuard
from serving.http.protocol import ShortWayProtocol
from serving.logs import AccessLog
from serving.metrics import Metrics

BODY = b'{"a": 1}'
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n"
WHOLE = HEAD + b"\r\n" + BODY

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Short:
    held = False

    def begin(self, _scope: Any, body: bytes) -> asyncio.Future[Any]:
        self.answer = asyncio.get_running_loop().create_future()
        if not self.held:
            self.answer.set_result({"way": "short", "body": body.decode()})
        return self.answer


async def _usual(_scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    await send_answer(send, json_answer(200, {"way": "usual", "body": body.decode()}))


class _Server:
    """The protocol on a loopback port, before an endpoint and an app that say which they are."""

    def __init__(self) -> None:
        self.lifecycle = Lifecycle()
        self.log = AccessLog()
        self.endpoint = _Short()
        self.metrics = Metrics()
        self.header_seconds = ShortWayProtocol.header_seconds
        self.hold: asyncio.Event | None = None
        guard = RequestGuard(
            self._usual_when_released,
            keys=ApiKeys([]),
            metrics=self.metrics,
            access_log=self.log,
            lifecycle=self.lifecycle,
            connections=Connections(Limits(), self.metrics),
            endpoints={("POST", "/predict"): self.endpoint},
            writers=None,
        )
        self.config = uvicorn.Config(
            guard, proxy_headers=False, log_config=None, ws="none", lifespan="off"
        )
        self.protocols: list[ShortWayProtocol] = []

    async def _usual_when_released(self, scope: Any, receive: Any, send: Any) -> None:
        if self.hold is not None:
            await self.hold.wait()
        await _usual(scope, receive, send)

    def protocol(self) -> ShortWayProtocol:
        state = ServerState()
        made = ShortWayProtocol(config=self.config, server_state=state, app_state={})
        made.header_seconds = self.header_seconds
        self.protocols.append(made)
        return made


def _ask(
    talk: Callable[[_Server, Streams], Awaitable[list[str]]], header_seconds: float = 10.0
) -> list[str]:
    async def run() -> list[str]:
        server = _Server()
        server.header_seconds = header_seconds
        server.config.load()
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(server.protocol, "127.0.0.1", 0)
        async with asyncio.timeout(20), listener:
            reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
            ways = await talk(server, (reader, writer))
            writer.close()
        server.log.flush()
        return ways

    return asyncio.run(run())


async def _way(reader: asyncio.StreamReader) -> str:
    """Return the way that the next answer came, having checked that the whole body was seen."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    length = next(
        line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
    )
    content = json.loads(await reader.readexactly(int(length.split()[1])))
    assert content["body"] == BODY.decode()
    return str(content["way"])


def test_a_request_that_has_come_whole_takes_the_short_way_each_time() -> None:
    async def talk(_server: _Server, streams: Streams) -> list[str]:
        reader, writer = streams
        ways = []
        for _ in range(3):
            writer.write(WHOLE)
            ways.append(await _way(reader))
        return ways

    assert _ask(talk) == ["short", "short", "short"]


@pytest.mark.parametrize(
    "request_",
    [
        WHOLE.replace(b"/predict", b"/model"),
        WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0"),
        HEAD + b"Connection: close\r\n\r\n" + BODY,
        HEAD + b"Expect: 100-continue\r\n\r\n" + BODY,
    ],
    ids=["another path", "HTTP/1.0", "not kept", "expect"],
)
def test_whatever_else_is_asked_takes_the_usual_way(request_: bytes) -> None:
    async def talk(_server: _Server, streams: Streams) -> list[str]:
        reader, writer = streams
        writer.write(request_)
        if b"Expect" in request_:
            await reader.readuntil(b"100 Continue\r\n\r\n")
        return [await _way(reader)]

    assert _ask(talk) == ["usual"]


def test_of_pipelined_requests_the_first_takes_the_short_way() -> None:
    async def talk(_server: _Server, streams: Streams) -> list[str]:
        reader, writer = streams
        writer.write(WHOLE * 3)
        return [await _way(reader) for _ in range(3)]

    assert _ask(talk) == ["short", "usual", "usual"]


def test_an_upload_in_pieces_takes_the_usual_way() -> None:
    async def talk(server: _Server, streams: Streams) -> list[str]:
        reader, writer = streams
        writer.write(WHOLE[:-1])
        while not (server.protocols and server.protocols[0].cycle):
            await asyncio.sleep(0)
        writer.write(WHOLE[-1:])
        return [await _way(reader)]

    assert _ask(talk) == ["usual"]


def test_a_client_that_does_not_read_takes_the_usual_way() -> None:
    async def talk(server: _Server, streams: Streams) -> list[str]:
        reader, writer = streams
        while not server.protocols:
            await asyncio.sleep(0)
        server.protocols[0].pause_writing()  # as the transport does when its buffer is full
        writer.write(WHOLE)
        while not server.protocols[0].cycle:
            await asyncio.sleep(0)
        server.protocols[0].resume_writing()
        return [await _way(reader)]

    assert _ask(talk) == ["usual"]


def test_while_the_server_drains_every_request_takes_the_usual_way() -> None:
    async def talk(server: _Server, streams: Streams) -> list[str]:
        reader, writer = streams
        server.lifecycle.draining = True
        writer.write(WHOLE)
        return [await _way(reader)]

    assert _ask(talk) == ["usual"]


@pytest.mark.parametrize("sent", [b"", HEAD[:-1]], ids=["nothing", "half a header"])
def test_a_connection_that_sends_no_whole_header_is_closed(sent: bytes) -> None:
    async def talk(_server: _Server, streams: Streams) -> list[str]:
        reader, writer = streams
        writer.write(sent)
        return [(await reader.read()).decode()]

    assert _ask(talk, header_seconds=0.01) == [""]


def test_a_header_byte_by_byte_has_no_more_time() -> None:
    async def talk(server: _Server, streams: Streams) -> list[str]:
        reader, writer = streams
        writer.write(HEAD)
        with suppress(ConnectionError):  # a byte may be on its way when the server closes
            while not reader.at_eof():
                writer.write(b"X")
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.001):
                        await reader.read(1)
        return []

    assert _ask(talk, header_seconds=0.05) == []


@pytest.mark.parametrize(
    ("sent", "limit"),
    [(HEAD, "header_seconds"), (b"\r\n", "timeout_keep_alive")],
    ids=["half a header", "an empty line"],
)
def test_a_later_request_has_limited_time_for_its_header(sent: bytes, limit: str) -> None:
    async def talk(server: _Server, streams: Streams) -> list[str]:
        reader, writer = streams
        writer.write(WHOLE)
        ways = [await _way(reader)]
        server.protocols[0].header_seconds = 0
        writer.write(WHOLE)  # needs no more time than it takes to arrive
        ways.append(await _way(reader))
        setattr(server.protocols[0], limit, 0)
        writer.write(sent)
        return [*ways, (await reader.read()).decode()]

    assert _ask(talk) == ["short", "short", ""]


def test_a_body_that_comes_after_its_answer_does_not_hurry_the_next_request() -> None:
    async def talk(server: _Server, streams: Streams) -> list[str]:
        reader, writer = streams
        refused = WHOLE.replace(b"localhost", b"elsewhere")
        writer.write(refused[:-1])
        assert (await reader.readuntil(b"}}")).startswith(b"HTTP/1.1 403 ")
        server.protocols[0].header_seconds = 0
        writer.write(refused[-1:])
        await writer.drain()
        for _ in range(100):  # a timer that was set would be due
            await asyncio.sleep(0)
        writer.write(WHOLE)
        return [await _way(reader)]

    assert _ask(talk) == ["short"]


def test_a_body_has_more_time_than_a_header() -> None:
    async def talk(server: _Server, streams: Streams) -> list[str]:
        reader, writer = streams
        writer.write(WHOLE)
        ways = [await _way(reader)]
        first = server.protocols[0].cycle
        server.protocols[0].header_seconds = 0
        writer.write(WHOLE[:-1])
        while server.protocols[0].cycle is first:
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # a timer that was set would be due
        writer.write(WHOLE[-1:])
        return [*ways, await _way(reader)]

    assert _ask(talk) == ["short", "usual"]


def test_a_client_that_has_gone_is_counted_and_logged_as_such(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def talk(server: _Server, streams: Streams) -> list[str]:
        _, writer = streams
        server.endpoint.held = True
        writer.write(WHOLE)
        while not (server.protocols and server.protocols[0].cycle):
            await asyncio.sleep(0)
        writer.close()
        while not server.protocols[0].cycle.disconnected:
            await asyncio.sleep(0)
        server.endpoint.answer.set_result({})
        while not server.metrics.requests:
            await asyncio.sleep(0)
        return [f"{route} {status}" for route, status in server.metrics.requests]

    assert _ask(talk) == ["/predict 499"]
    assert json.loads(capsys.readouterr().err)["status"] == 499


def test_an_answer_has_more_time_than_a_header() -> None:
    async def talk(server: _Server, streams: Streams) -> list[str]:
        reader, writer = streams
        server.endpoint.held = True
        writer.write(WHOLE)
        while not (server.protocols and server.protocols[0].cycle):
            await asyncio.sleep(0)
        answer = {"way": "short", "body": BODY.decode()}
        asyncio.get_running_loop().call_later(0.6, server.endpoint.answer.set_result, answer)
        return [await _way(reader)]

    assert _ask(talk, header_seconds=0.5) == ["short"]


def _closed_as_not_reading(read_bytes: int) -> int:
    """Return 1 if a client that reads so much of a large answer, again and again, is closed."""

    async def talk(server: _Server, streams: Streams) -> list[str]:
        reader, writer = streams
        server.endpoint.held = True
        writer.write(WHOLE)
        while not (server.protocols and server.protocols[0].cycle):
            await asyncio.sleep(0)
        [protocol] = server.protocols
        protocol.write_seconds = 0.1
        server.endpoint.answer.set_result({"way": "x" * 2**25})
        while not server.metrics.buffered_bytes:
            await asyncio.sleep(0)
        assert server.metrics.buffered_bytes > 2**20
        loop = asyncio.get_running_loop()
        until = loop.time() + 0.4
        while loop.time() < until and not server.metrics.connections_closed:
            protocol.check_reader()
            await reader.read(read_bytes)
            await asyncio.sleep(0.01)
        return [str(server.metrics.connections_closed["not reading"])]

    return int(_ask(talk)[0])


def test_a_client_that_does_not_read_is_closed() -> None:
    assert _closed_as_not_reading(read_bytes=0) == 1


def test_a_client_that_reads_slowly_is_not() -> None:
    assert _closed_as_not_reading(read_bytes=2**18) == 0


def test_answers_that_nobody_reads_are_limited_in_all() -> None:
    async def talk(server: _Server, streams: Streams) -> list[str]:
        _, writer = streams
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        server.endpoint.held = True
        writer.write(WHOLE)
        while not (server.protocols and server.protocols[0].cycle):
            await asyncio.sleep(0)
        server.endpoint.answer.set_result({"way": "x" * 2 * Limits.buffered_bytes})
        while not server.metrics.connections_closed:
            await asyncio.sleep(0)
        while server.metrics.connections:
            await asyncio.sleep(0)
        return [str(server.metrics.buffered_bytes)]

    assert _ask(talk) == ["0"]


def test_a_client_that_left_is_counted_so_on_the_usual_way_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def talk(server: _Server, streams: Streams) -> list[str]:
        _, writer = streams
        server.lifecycle.draining = True  # every request takes the usual way
        server.hold = asyncio.Event()
        writer.write(WHOLE)
        while not (server.protocols and server.protocols[0].cycle):
            await asyncio.sleep(0)
        writer.close()
        while server.metrics.connections:
            await asyncio.sleep(0)
        server.hold.set()
        while not server.metrics.requests:
            await asyncio.sleep(0)
        return [f"{route} {status}" for route, status in server.metrics.requests]

    assert _ask(talk) == ["/predict 499"]
    assert [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()] == [
        "request"
    ]

"""ASGI's types, and whole answers of JSON."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, NamedTuple, Protocol

import orjson

from contract.serving_errors import ServingError
from serving.http_errors import HttpError, UnauthorizedError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

CALLER = "serving.caller"
"""The scope's key of its `Caller`."""


class Transport(Protocol):
    """The part of an `asyncio.Transport` that knows whether the client is still there."""

    def is_closing(self) -> bool:
        """Return whether nothing can be sent any more."""


class Caller:
    """Who asks.

    Attributes
    ----------
    arrived
        When the request's first byte was read, on the clock of `time.monotonic`.
    fault
        What is wrong with the request's body, found while it came in.
    request_id
        What its answer's `X-Request-Id` says.
    """

    __slots__ = ("_transport", "arrived", "fault", "request_id")

    def __init__(self, transport: Transport | None = None) -> None:
        self.arrived = time.monotonic()
        self.fault: ServingError | None = None
        self.request_id = b""
        self._transport = transport

    @property
    def gone(self) -> bool:
        """Whether the connection ended before the answer was sent."""
        return self._transport is not None and self._transport.is_closing()


def caller_of(scope: Scope) -> Caller:
    """Return who asks; under another server than ours it is known from now on."""
    caller: Caller | None = scope.get(CALLER)
    if caller is None:
        caller = scope[CALLER] = Caller()
    return caller


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    headers: list[Header]
    body: bytes


def json_answer(status: int, content: Any, headers: Iterable[Header] = ()) -> Answer:
    """Return an answer of JSON."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    length = (b"content-length", b"%d" % len(body))
    return Answer(status, [(b"content-type", b"application/json"), length, *headers], body)


def error_answer(err: ServingError, request_id: bytes) -> Answer:
    """Return an error's answer, in the one shape of errors."""
    error = {"code": err.code, "message": err.message, "request_id": request_id.decode()}
    return json_answer(err.status, {"error": error}, _error_headers(err))


async def send_answer(send: Send, answer: Answer) -> None:
    """Send it the ASGI way."""
    status, headers, body = answer
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _error_headers(err: ServingError) -> list[Header]:
    """Return the headers that belong to an error's status."""
    headers = []
    if isinstance(err, HttpError):
        headers += [(name.lower().encode(), value.encode()) for name, value in err.headers.items()]
    if err.retry_after is not None:
        headers.append((b"retry-after", b"%d" % err.retry_after))
    if err.status == UnauthorizedError.status:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers

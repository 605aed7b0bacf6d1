"""What happens to every request: an id, the API key, the log line, and one shape for errors."""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Protocol

from contract.serving_errors import ServingError
from serving.http.api_keys import OPEN_PATHS, PROBES, ApiKeys
from serving.http.asgi import (
    Answer,
    App,
    Header,
    Message,
    Receive,
    Scope,
    Send,
    caller_of,
    error_answer,
    json_answer,
    send_answer,
)
from serving.http.connections import Connections
from serving.http_errors import ForbiddenError
from serving.logs import AccessLog, log
from serving.metrics import Metrics

Reply = Callable[[int, Sequence[Header], bytes], bool]

ROUTES = frozenset({"/predict", "/model", "/metrics", "/openapi.json"}) | OPEN_PATHS
EVENTS, PUSH = "/events/", "/push/"
"""Prefixes of the paths that write and have keys of their own."""
_UNREADABLE = "unreadable"
"""The route of a request whose head could not be read."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_CLIENT_CLOSED = 499


class ClientDisconnectedError(Exception):
    """The client went away before its request was read."""


class Endpoint(Protocol):
    """What answers a request that has come whole."""

    def begin(self, scope: Scope, body: bytes) -> asyncio.Future[Any]:
        """Return the future of the answer's content; raises ServingError, as the future may."""


class Lifecycle:
    """Whether the server is on its way out: it still answers, and closes each connection."""

    draining = False


class RequestGuard:
    """ASGI middleware around the whole app.

    Parameters
    ----------
    connections
        Those of the server that runs the app; it counts and closes them.
    writers
        The keys of clients that send events; None: no client may.
    endpoints
        By method and path, what answers a request that has arrived completely: without FastAPI's
        router and its other middleware, and without a task.
    """

    def __init__(
        self,
        app: App,
        *,
        keys: ApiKeys,
        writers: ApiKeys | None,
        metrics: Metrics,
        access_log: AccessLog,
        lifecycle: Lifecycle,
        connections: Connections,
        endpoints: Mapping[tuple[str, str], Endpoint],
    ) -> None:
        self.connections = connections
        self._app = app
        self._endpoints = endpoints
        self._keys = keys
        self._writers = writers
        self._metrics = metrics
        self._access_log = access_log
        self._lifecycle = lifecycle
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on and see it answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        caller = caller_of(scope)
        request_id = self._request_id(scope)
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = _CLIENT_CLOSED if caller.gone else message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", request_id)]
                if self.draining:
                    headers.append((b"connection", b"close"))
                message["headers"] = headers
            await send(message)

        try:
            self._keys_for(scope).check(scope)
            await self._app(scope, receive, answer)
        except ClientDisconnectedError:
            status = _CLIENT_CLOSED
        except Exception as err:
            if caller.gone:  # whatever came of that is nobody's fault
                return
            told = self._told(err, request_id)
            if not status:
                await send_answer(answer, told)
        finally:
            self._note(scope, status or _CLIENT_CLOSED, caller.arrived, request_id)

    def _keys_for(self, scope: Scope) -> ApiKeys:
        if not scope["path"].startswith((EVENTS, PUSH)):
            return self._keys
        if self._writers is None:
            raise ForbiddenError("this server takes no events: SERVING_EVENT_KEYS is not set")
        return self._writers

    @property
    def draining(self) -> bool:
        """Whether each answer is to close its connection."""
        return self._lifecycle.draining

    def answers(self, scope: Scope) -> bool:
        """Return whether `answer` takes such a request."""
        return (scope["method"], scope["path"]) in self._endpoints and not self.draining

    def answer(self, scope: Scope, body: bytes, reply: Reply) -> None:
        """Answer a request that has come whole.

        `reply` is called once, now or later; it returns whether the client is still there.
        """
        request_id = self._request_id(scope)

        def finish(content: asyncio.Future[Any]) -> None:
            try:
                answer = json_answer(200, content.result())
            except Exception as err:
                answer = self._told(err, request_id)
            headers = [*answer.headers, (b"x-request-id", request_id)]
            sent = reply(answer.status, headers, answer.body)
            status = answer.status if sent else _CLIENT_CLOSED
            self._note(scope, status, caller_of(scope).arrived, request_id)

        try:
            self._keys.check(scope)
            content = self._endpoints[scope["method"], scope["path"]].begin(scope, body)
        except Exception as err:  # as below
            content = asyncio.get_running_loop().create_future()
            content.set_exception(err)
        content.add_done_callback(finish)

    def refuse(self, err: ServingError, arrived: float) -> Answer:
        """Return the answer to what could not be read as a request."""
        request_id = self._next_id()
        self._note({"method": "", "path": _UNREADABLE}, err.status, arrived, request_id)
        answer = error_answer(err, request_id)
        return answer._replace(headers=[*answer.headers, (b"x-request-id", request_id)])

    def _told(self, err: Exception, request_id: bytes) -> Answer:
        """Return what a client learns of an error: of one that is none of ours, only the id."""
        if not isinstance(err, ServingError):
            _log_unexpected(err, request_id)
            err = ServingError("internal error")
        return error_answer(err, request_id)

    def _request_id(self, scope: Scope) -> bytes:
        """Return the request's id, which its caller has from now on."""
        caller = caller_of(scope)
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                caller.request_id = bytes(value)
                return caller.request_id
        caller.request_id = self._next_id()
        return caller.request_id

    def _next_id(self) -> bytes:
        return b"%s-%x" % (self._prefix.encode(), next(self._numbers))

    def _note(self, scope: Scope, status: int, arrived: float, request_id: bytes) -> None:
        seconds = time.monotonic() - arrived
        path = scope["path"]
        route = path if path in ROUTES or path is _UNREADABLE else _route_of(path)
        self._metrics.request(route, status, seconds)
        if status == HTTPStatus.OK and path in PROBES:
            return  # asked every second by whoever runs us
        self._access_log.add(
            request_id=request_id.decode(),
            method=scope["method"],
            route=route,
            status=status,
            milliseconds=int(seconds * 1_000_000) / 1000,
        )


def _route_of(path: str) -> str:
    """Return what metrics call a path that is not one of `ROUTES`."""
    if path.startswith(EVENTS):
        return f"{EVENTS}{{table}}"
    return f"{PUSH}{{view}}" if path.startswith(PUSH) else "other"


def _log_unexpected(err: Exception, request_id: bytes) -> None:
    """Log where it happened, not the exception's words: those may hold a client's data."""
    frames = [
        f"{frame.filename}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(err.__traceback__)
    ]
    log(
        "error",
        "unexpected failure",
        request_id=request_id.decode(),
        type=type(err).__name__,
        frames=frames,
    )

"""What happens to every request: an id, the API key, the log line, and errors told one way."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import re
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from functools import lru_cache
from hashlib import sha256
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

import orjson

from contract.serving_errors import ServingError
from contract.serving_settings import is_loopback
from serving.http_errors import ForbiddenError, HttpError, UnauthorizedError
from serving.logs import AccessLog, log
from serving.metrics import Metrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]
Reply = Callable[[int, Sequence[Header], bytes], bool]

PROBES = frozenset({"/health", "/ready"})
OPEN_PATHS = PROBES | {"/docs"}
OPEN_FOLDER = "/docs/assets/"
ROUTES = frozenset({"/predict", "/model", "/metrics", "/openapi.json"}) | OPEN_PATHS
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_HOST = re.compile(r"(?:\[([0-9a-f:]+)\]|([^:\[\]]+?)\.?)(?::[0-9]*)?")
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


class ApiKeys:
    """Decides who may ask. Compared in constant time; several keys allow rotation.

    Without any key only requests that arrive at a loopback address and ask for one are answered,
    whatever the server was told to listen on. A page of another site may have its own name point at
    this machine (DNS rebinding); the browser then sends that name as `Host`.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [sha256(key.encode()).digest() for key in keys]

    def check(self, scope: Scope) -> None:
        """Return if the request may pass.

        Raises
        ------
        UnauthorizedError, ForbiddenError
            If it may not.
        """
        path = scope["path"]
        if path in OPEN_PATHS or path.startswith(OPEN_FOLDER):
            return
        if not self._digests:
            _check_loopback(scope)
            return
        given = sha256(_credential(scope)).digest()
        known = False
        for digest in self._digests:
            known |= hmac.compare_digest(given, digest)
        if not known:
            raise UnauthorizedError(
                "send one of the server's API keys as X-API-Key or Bearer token"
            )


def _check_loopback(scope: Scope) -> None:
    if not is_loopback((scope.get("server") or ("", 0))[0]):
        raise ForbiddenError("without API keys this server answers on loopback only")
    if not _names_loopback(_host(scope)):
        raise ForbiddenError(
            "without API keys this server answers only as localhost, 127.0.0.1 or [::1]"
        )


def _host(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"host":
            return bytes(value)
    return b"localhost" if scope["http_version"] == "1.0" else b""  # later versions require it


@lru_cache(maxsize=64)
def _names_loopback(host: bytes) -> bool:
    """Return whether a `Host` header, with or without a port, can only mean this machine."""
    found = _HOST.fullmatch(host.decode("latin-1").lower())
    return found is not None and is_loopback(found[1] or found[2])


def _credential(scope: Scope) -> bytes:
    bearer = b""
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            return bytes(value)
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            bearer = value[7:].strip()
    return bearer


class RequestGuard:
    """ASGI middleware around the whole app.

    Parameters
    ----------
    endpoints
        By method and path, what answers a request that has come whole: without FastAPI's router
        and its other middleware, and without a task.
    """

    def __init__(
        self,
        app: App,
        *,
        keys: ApiKeys,
        metrics: Metrics,
        access_log: AccessLog,
        lifecycle: Lifecycle,
        endpoints: Mapping[tuple[str, str], Endpoint],
    ) -> None:
        self._app = app
        self._endpoints = endpoints
        self._keys = keys
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
        started = time.perf_counter()
        request_id = self._request_id(scope)
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", request_id)]
                if self.draining:
                    headers.append((b"connection", b"close"))
                message["headers"] = headers
            await send(message)

        try:
            self._keys.check(scope)
            await self._app(scope, receive, answer)
        except ClientDisconnectedError:
            status = _CLIENT_CLOSED
        except Exception as err:
            told = self._told(err, request_id)
            if not status:
                await send_answer(answer, told)
        finally:
            self._note(scope, status, time.perf_counter() - started, request_id)

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
        started = time.perf_counter()
        request_id = self._request_id(scope)

        def finish(content: asyncio.Future[Any]) -> None:
            try:
                answer = json_answer(200, content.result())
            except Exception as err:
                answer = self._told(err, request_id)
            headers = [*answer.headers, (b"x-request-id", request_id)]
            sent = reply(answer.status, headers, answer.body)
            status = answer.status if sent else _CLIENT_CLOSED
            self._note(scope, status, time.perf_counter() - started, request_id)

        try:
            self._keys.check(scope)
            content = self._endpoints[scope["method"], scope["path"]].begin(scope, body)
        except Exception as err:  # as below
            content = asyncio.get_running_loop().create_future()
            content.set_exception(err)
        content.add_done_callback(finish)

    def _told(self, err: Exception, request_id: bytes) -> Answer:
        """Return what a client learns of an error: of one that is none of ours, only the id."""
        if not isinstance(err, ServingError):
            _log_unexpected(err, request_id)
            err = ServingError("internal error")
        return error_answer(err, request_id)

    def _request_id(self, scope: Scope) -> bytes:
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                return bytes(value)
        return b"%s-%x" % (self._prefix.encode(), next(self._numbers))

    def _note(self, scope: Scope, status: int, seconds: float, request_id: bytes) -> None:
        path = scope["path"]
        route = path if path in ROUTES else "other"
        self._metrics.request(route, status, seconds)
        if status == HTTPStatus.OK and path in PROBES:
            return  # asked every second by whoever runs us
        self._access_log.add(
            request_id=request_id.decode(),
            method=scope["method"],
            route=route,
            status=status,
            milliseconds=round(seconds * 1000, 3),
        )


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
    return json_answer(err.status, {"error": error}, error_headers(err))


async def send_answer(send: Send, answer: Answer) -> None:
    """Send it the ASGI way."""
    status, headers, body = answer
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def error_headers(err: ServingError) -> list[Header]:
    """Return the headers that belong to an error's status."""
    headers = []
    if isinstance(err, HttpError):
        headers += [(name.lower().encode(), value.encode()) for name, value in err.headers.items()]
    if err.retry_after is not None:
        headers.append((b"retry-after", b"%d" % err.retry_after))
    if err.status == UnauthorizedError.status:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


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

"""Reads request bodies within the limits, whichever endpoint they are for."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from contract.serving_settings import Limits
from serving.admission import Admission, too_late
from serving.http.asgi import Caller, Receive, Scope, caller_of
from serving.http.guard import ClientDisconnectedError
from serving.http_errors import RequestTooLargeError, UnsupportedMediaTypeError
from serving.metrics import Metrics

_CHARSET = re.compile(rb';\s*charset\s*=\s*"?([^\s";]+)', re.IGNORECASE)
_UTF8 = frozenset({b"utf-8", b"utf8", b"us-ascii"})


class Uploads:
    """Receives bodies; all endpoints together keep to the limits."""

    def __init__(self, admission: Admission, metrics: Metrics, limits: Limits) -> None:
        self._admission = admission
        self._metrics = metrics
        self._limits = limits

    @asynccontextmanager
    async def whole(self, scope: Scope, receive: Receive) -> AsyncIterator[bytes]:
        """Give the body of a JSON request; the block has the time that the request has left.

        Raises
        ------
        ServingError
            If the body cannot be read or is too large, or the time is over.
        """
        require_json(scope)
        for name, value in scope["headers"]:
            if name == b"content-length":
                check_size(int(value), self._limits)
        caller = caller_of(scope)
        try:
            async with asyncio.timeout(caller.arrived + self._limits.seconds - time.monotonic()):
                yield await self._receive(receive, caller)
        except TimeoutError as err:
            raise too_late() from err

    @asynccontextmanager
    async def held(self, scope: Scope, receive: Receive) -> AsyncIterator[bytes]:
        """As `whole`, and count the body's memory until the block ends.

        Raises
        ------
        ServingError
            As `whole`.
        """
        async with self.whole(scope, receive) as body:
            self._admission.hold(len(body), len(body))
            try:
                yield body
            finally:
                self._admission.release(len(body))

    async def _receive(self, receive: Receive, caller: Caller) -> bytes:
        body = bytearray()
        self._metrics.in_flight += 1
        held = 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnectedError
                if caller.fault is not None:
                    raise caller.fault
                body += message.get("body", b"")
                check_size(len(body), self._limits)
                self._admission.hold(len(body) - held, len(body))
                held = len(body)
                if not message.get("more_body"):
                    return bytes(body)
        finally:
            self._metrics.in_flight -= 1
            self._admission.release(held)


def check_size(size: int, limits: Limits) -> None:
    """Refuse a body of too many bytes."""
    if size > limits.body_bytes:
        raise RequestTooLargeError(f"the body is larger than {limits.body_bytes} bytes")


def require_json(scope: Scope) -> None:
    """Refuse what the headers do not call plain JSON in UTF-8.

    Browsers cannot send JSON to another site unasked; what they can send is refused.
    """
    kind = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            kind = kind or value
        elif name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}:
            raise UnsupportedMediaTypeError(
                f"Content-Encoding: {value[:40].decode('latin-1')} is not read; send the JSON "
                "as it is"
            )
    if kind.split(b";")[0].strip().lower() != b"application/json":
        raise UnsupportedMediaTypeError("send the body with Content-Type: application/json")
    charset = _CHARSET.search(kind) if b";" in kind else None
    if charset is not None and charset[1].lower() not in _UTF8:
        raise UnsupportedMediaTypeError(
            f"charset={charset[1][:40].decode('latin-1')} is not read; send the JSON as UTF-8"
        )

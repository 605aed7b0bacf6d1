"""POST /predict: entity rows in, predictions out, in the shortest way that is still safe.

`begin` takes a request that has come whole, without a task of its own; the ASGI endpoint takes
every other, such as a slow upload. `serving.http.openapi` describes both from the same bundle that
they answer from.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

from contract.serving_settings import Limits
from serving.batches import Batches, Record
from serving.champion_watch import ChampionWatch
from serving.features.online_client import OnlineStoreClient
from serving.http.asgi import Caller, Receive, Scope, Send, caller_of, json_answer, send_answer
from serving.http.guard import ClientDisconnectedError
from serving.http_errors import RequestTimeoutError, RequestTooLargeError, UnsupportedMediaTypeError
from serving.metrics import Metrics

_CHARSET = re.compile(rb';\s*charset\s*=\s*"?([^\s";]+)', re.IGNORECASE)
_UTF8 = frozenset({b"utf-8", b"utf8", b"us-ascii"})


class PredictEndpoint:
    """Answers `POST /predict`."""

    def __init__(
        self,
        champion: ChampionWatch,
        online: OnlineStoreClient,
        metrics: Metrics,
        limits: Limits,
        record: Record | None = None,
    ) -> None:
        self._batches = Batches(champion, online, metrics, limits, record)
        self._metrics = metrics
        self._limits = limits

    def begin(self, scope: Scope, body: bytes) -> asyncio.Future[dict[str, Any]]:
        """Return the future of the answer's content; raises ServingError, as the future may."""
        _require_json(scope)
        self._check_size(len(body))
        return self._batches.predict(body, caller_of(scope))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read a request within the limits, and answer it."""
        _require_json(scope)
        for name, value in scope["headers"]:
            if name == b"content-length":
                self._check_size(int(value))
        caller = caller_of(scope)
        try:
            async with asyncio.timeout(caller.arrived + self._limits.seconds - time.monotonic()):
                body = await self._receive_body(receive, caller)
                content = await self._batches.predict(body, caller)
        except TimeoutError as err:
            raise RequestTimeoutError("the answer was not ready in time") from err
        await send_answer(send, json_answer(200, content))

    async def _receive_body(self, receive: Receive, caller: Caller) -> bytes:
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
                self._check_size(len(body))
                self._batches.admission.hold(len(body) - held, len(body))
                held = len(body)
                if not message.get("more_body"):
                    return bytes(body)
        finally:
            self._metrics.in_flight -= 1
            self._batches.admission.release(held)

    def _check_size(self, size: int) -> None:
        if size > self._limits.body_bytes:
            raise RequestTooLargeError(f"the body is larger than {self._limits.body_bytes} bytes")


def _require_json(scope: Scope) -> None:
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

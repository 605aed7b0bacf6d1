"""POST /predict: entity rows in, predictions out, in the shortest way that is still safe.

A plain ASGI endpoint, which the guard calls without FastAPI's router and middleware: a FastAPI
route that returns a constant costs nearly as much CPU time as all of this. `serving.openapi`
describes it from the same bundle that it answers from.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from serving.batches import Batches, PredictRequest
from serving.champion import Champion
from serving.errors import (
    InvalidRequestError,
    RequestTimeoutError,
    RequestTooLargeError,
    TooManyRequestsError,
    UnsupportedMediaTypeError,
)
from serving.guard import ClientDisconnectedError, Receive, Scope, Send, send_json
from serving.metrics import Metrics
from serving.online_client import OnlineStoreClient
from serving.settings import Limits

_FIELDS = frozenset({"entity_rows", "feature_overrides", "include_features", "strict"})


class PredictEndpoint:
    """Answers `POST /predict`."""

    def __init__(
        self, champion: Champion, online: OnlineStoreClient, metrics: Metrics, limits: Limits
    ) -> None:
        self._batches = Batches(champion, online, metrics)
        self._champion = champion
        self._metrics = metrics
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request within the limits."""
        metrics = self._metrics
        if metrics.in_flight >= self._limits.concurrency:
            raise TooManyRequestsError("too many requests at once")
        metrics.in_flight += 1
        try:
            async with asyncio.timeout(self._limits.seconds):
                _require_json(scope)
                body = await _read_body(receive, self._limits.body_bytes)
                request = _parse(body, self._limits.rows)
                self._require_overridable(request)
                content = await self._batches.predict(request)
        except TimeoutError as err:
            raise RequestTimeoutError("the answer was not ready in time") from err
        finally:
            metrics.in_flight -= 1
        await send_json(send, 200, content)

    def _require_overridable(self, request: PredictRequest) -> None:
        if request.feature_overrides is not None and not self._champion.current.overrides:
            raise InvalidRequestError("feature_overrides: this model's recipe allows none")


def _require_json(scope: Scope) -> None:
    """Browsers cannot send JSON to another site unasked; what they can send is refused."""
    for name, value in scope["headers"]:
        if name == b"content-type":
            if value.split(b";")[0].strip().lower() == b"application/json":
                return
            break
    raise UnsupportedMediaTypeError("send the body with Content-Type: application/json")


async def _read_body(receive: Receive, limit: int) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnectedError
        body += bytes(message.get("body", b""))
        if len(body) > limit:
            raise RequestTooLargeError(f"the body is larger than {limit} bytes")
        if not message.get("more_body"):
            return body


def _parse(body: bytes, max_rows: int) -> PredictRequest:
    """Return the request in `body`. Raises InvalidRequestError, RequestTooLargeError."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as err:
        raise InvalidRequestError("the body is not JSON") from err
    if not isinstance(content, dict):
        raise InvalidRequestError('the body is not an object such as {"entity_rows": [...]}')
    if unknown := sorted(content.keys() - _FIELDS):
        raise InvalidRequestError(f"{unknown[0]!r} is not a field; those are {sorted(_FIELDS)}")
    rows = content.get("entity_rows")
    if not isinstance(rows, list) or not rows:
        raise InvalidRequestError("entity_rows must be a list of one or more entity rows")
    if len(rows) > max_rows:
        raise RequestTooLargeError(f"{len(rows)} entity rows; the limit is {max_rows}")
    overrides = content.get("feature_overrides")
    if overrides is not None and (not isinstance(overrides, list) or len(overrides) != len(rows)):
        raise InvalidRequestError(
            "feature_overrides must be a list of one object, or null, for each of the "
            f"{len(rows)} entity rows"
        )
    return PredictRequest(
        rows, overrides, _flag(content, "include_features"), _flag(content, "strict")
    )


def _flag(content: dict[str, Any], name: str) -> bool:
    value = content.get(name, False)
    if not isinstance(value, bool):
        raise InvalidRequestError(f"{name} must be true or false")
    return value

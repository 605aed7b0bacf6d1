"""POST /predict: entity rows in, predictions out, in the shortest way that is still safe.

`begin` takes a request that has come whole, without a task of its own; the ASGI endpoint takes
every other, such as a slow upload. `serving.http.openapi` describes both from the same bundle that
they answer from.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from contract.serving_settings import Limits
from serving.batches import Batches, PredictRequest
from serving.champion_watch import ChampionWatch
from serving.features.online_client import OnlineStoreClient
from serving.http.guard import (
    ClientDisconnectedError,
    Receive,
    Scope,
    Send,
    json_answer,
    send_answer,
)
from serving.http_errors import (
    InvalidRequestError,
    RequestTimeoutError,
    RequestTooLargeError,
    TooManyRequestsError,
    UnsupportedMediaTypeError,
)
from serving.metrics import Metrics

_FIELDS = frozenset({"entity_rows", "feature_overrides", "include_features", "strict"})


class PredictEndpoint:
    """Answers `POST /predict`."""

    def __init__(
        self, champion: ChampionWatch, online: OnlineStoreClient, metrics: Metrics, limits: Limits
    ) -> None:
        self._batches = Batches(champion, online, metrics, limits.seconds)
        self._champion = champion
        self._metrics = metrics
        self._limits = limits

    def begin(self, scope: Scope, body: bytes) -> asyncio.Future[dict[str, Any]]:
        """Return the future of the answer's content; raises ServingError, as the future may."""
        self._require_room()
        _require_json(scope)
        return self._ask(body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read a request within the limits, and answer it."""
        self._require_room()
        _require_json(scope)
        try:
            async with asyncio.timeout(self._limits.seconds):
                content = await self._ask(await self._read_body(receive))
        except TimeoutError as err:
            raise RequestTimeoutError("the answer was not ready in time") from err
        await send_answer(send, json_answer(200, content))

    async def _read_body(self, receive: Receive) -> bytes:
        body, limit = b"", self._limits.body_bytes
        self._metrics.in_flight += 1
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnectedError
                body += bytes(message.get("body", b""))
                _check_size(body, limit)
                if not message.get("more_body"):
                    return body
        finally:
            self._metrics.in_flight -= 1

    def _require_room(self) -> None:
        if self._metrics.in_flight >= self._limits.concurrency:
            raise TooManyRequestsError("too many requests at once")

    def _ask(self, body: bytes) -> asyncio.Future[dict[str, Any]]:
        request = _parse(body, self._limits)
        if request.feature_overrides is not None and not self._champion.current.overrides:
            served = self._champion.current.version.version
            raise InvalidRequestError(
                f"feature_overrides: the recipe that version {served} was trained with allows none"
            )
        return self._batches.predict(request)


def _require_json(scope: Scope) -> None:
    """Browsers cannot send JSON to another site unasked; what they can send is refused."""
    for name, value in scope["headers"]:
        if name == b"content-type":
            if value.split(b";")[0].strip().lower() == b"application/json":
                return
            break
    raise UnsupportedMediaTypeError("send the body with Content-Type: application/json")


def _check_size(body: bytes, limit: int) -> None:
    if len(body) > limit:
        raise RequestTooLargeError(f"the body is larger than {limit} bytes")


def _parse(body: bytes, limits: Limits) -> PredictRequest:
    """Return the request in `body`. Raises InvalidRequestError, RequestTooLargeError."""
    _check_size(body, limits.body_bytes)
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as err:
        raise InvalidRequestError("the body is not JSON") from err
    if not isinstance(content, dict):
        raise InvalidRequestError('the body is not an object such as {"entity_rows": [...]}')
    if unknown := sorted(content.keys() - _FIELDS):
        fields = ", ".join(sorted(_FIELDS))
        raise InvalidRequestError(f"{unknown[0]!r} is not a field; those are {fields}")
    rows = content.get("entity_rows")
    if not isinstance(rows, list) or not rows:
        raise InvalidRequestError("entity_rows must be a list of one or more entity rows")
    if len(rows) > limits.rows:
        raise RequestTooLargeError(f"{len(rows)} entity rows; the limit is {limits.rows}")
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

"""POST /predict: entity rows in, predictions out, in the shortest way that is still safe.

A plain ASGI endpoint: FastAPI's own request handling costs 0.15 ms, the work here 0.1 ms.
`serving.openapi` describes it from the same bundle that it answers from.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from serving.champion import Champion, Loaded
from serving.errors import (
    InvalidEntityRowError,
    InvalidOnlineValueError,
    InvalidRequestError,
    OnlineStoreUnavailableError,
    PredictionError,
    RequestTimeoutError,
    RequestTooLargeError,
    ServingError,
    TooManyRequestsError,
    UnsupportedMediaTypeError,
)
from serving.guard import ClientDisconnectedError, Receive, Scope, Send, send_json
from serving.metrics import Metrics
from serving.online import OnlineRow
from serving.online_client import OnlineStoreClient
from serving.scoring import Predictions
from serving.settings import Limits

_INLINE_ROWS = 128
"""More rows are scored in a thread, so that one large request does not hold up the others."""
_FIELDS = frozenset({"entity_rows", "include_features", "strict"})


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """A request that can be read; its rows are looked at one by one."""

    entity_rows: list[Any]
    include_features: bool
    strict: bool


class PredictEndpoint:
    """Answers `POST /predict`."""

    def __init__(
        self, champion: Champion, online: OnlineStoreClient, metrics: Metrics, limits: Limits
    ) -> None:
        self._champion = champion
        self._online = online
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
                content = await self._predict(_parse(body, self._limits.rows))
        except TimeoutError as err:
            raise RequestTimeoutError("the answer was not ready in time") from err
        finally:
            metrics.in_flight -= 1
        await send_json(send, 200, content)

    async def _predict(self, request: PredictRequest) -> dict[str, Any]:
        loaded = self._champion.current
        answers: list[Any] = [None] * len(request.entity_rows)
        rows = await self._online_rows(loaded, request, answers)
        predictions = await _score(loaded, [row.values for row in rows.values()])
        for (position, row), label, shares in zip(
            rows.items(), predictions.labels.tolist(), _shares(predictions), strict=True
        ):
            if not math.isfinite(label if shares is None else sum(shares)):
                failed = PredictionError("the model's answer is not a finite number")
                answers[position] = self._error(failed, position, request)
                continue
            answer: dict[str, Any] = {"prediction": label}
            if shares is not None:
                # NumPy's float32, which orjson writes as 0.8 where a float is 0.800000011920929
                answer["probabilities"] = dict(zip(loaded.class_names, shares, strict=True))
            if request.include_features:
                answer["features"] = _features(loaded, row)
            answers[position] = answer
            self._metrics.row(loaded, row, label, shares)
        return {
            "model": {"name": loaded.name, "version": loaded.version.version},
            "predictions": answers,
        }

    async def _online_rows(
        self, loaded: Loaded, request: PredictRequest, answers: list[Any]
    ) -> dict[int, OnlineRow]:
        """Return the online features by row position; rows in error get their answer here."""
        commands: dict[bytes, int] = {}
        wanted: dict[int, list[int]] = {}
        for position, entity_row in enumerate(request.entity_rows):
            try:
                packed = loaded.online.commands(entity_row)
            except InvalidEntityRowError as err:
                answers[position] = self._error(err, position, request)
            else:
                wanted[position] = [commands.setdefault(one, len(commands)) for one in packed]
        replies = await self._read(list(commands))
        now = time.time()
        cache: dict[int, OnlineRow] = {}
        rows = {}
        for position, places in wanted.items():
            try:
                rows[position] = loaded.online.row([replies[i] for i in places], now, cache)
            except InvalidOnlineValueError as err:
                answers[position] = self._error(err, position, request)
        return rows

    async def _read(self, commands: Sequence[bytes]) -> list[Any]:
        if not commands:
            return []
        started = time.perf_counter()
        try:
            replies = await self._online.read(commands)
        except OnlineStoreUnavailableError:
            self._metrics.redis_failures += 1
            raise
        self._metrics.redis.observe(time.perf_counter() - started)
        return replies

    def _error(self, err: ServingError, position: int, request: PredictRequest) -> dict[str, Any]:
        """Return the answer of a row in error; with `strict` it is the whole request's."""
        if request.strict:
            raise type(err)(f"entity_rows[{position}]: {err.message}", hint=err.hint)
        self._metrics.row_errors[err.code] += 1
        return {"error": {"code": err.code, "message": err.message}}


async def _score(loaded: Loaded, rows: list[Sequence[Any]]) -> Predictions:
    model = loaded.model
    if model.quick and len(rows) <= _INLINE_ROWS:
        return model.score_rows(rows)
    return await asyncio.to_thread(model.score_rows, rows)


def _shares(predictions: Predictions) -> Iterable[Any]:
    """Return each row's probabilities; None for a regression's."""
    if predictions.probabilities is None:
        return itertools.repeat(None, len(predictions.labels))
    return predictions.probabilities


def _features(loaded: Loaded, row: OnlineRow) -> dict[str, Any]:
    return {
        feature.name: {
            "value": value,
            "status": status,
            "age_seconds": None if age is None else round(age, 3),
        }
        for feature, value, status, age in zip(
            loaded.bundle.features, row.values, row.statuses, row.ages, strict=True
        )
    }


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
    return PredictRequest(rows, _flag(content, "include_features"), _flag(content, "strict"))


def _flag(content: dict[str, Any], name: str) -> bool:
    value = content.get(name, False)
    if not isinstance(value, bool):
        raise InvalidRequestError(f"{name} must be true or false")
    return value

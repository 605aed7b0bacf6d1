"""Predictions for all requests that are there at the same time together.

They cost one trip to the online store and one run of the model: 100 trees take 13 µs a row where 16
rows are scored together, and 21 µs where each is alone. Nobody waits for company: a request that is
alone is answered alone; where several have come in one turn of the event loop, those that came
while they were read are taken along.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

from contract.scoring import Predictions
from contract.serving_errors import InvalidOnlineValueError, PredictionError, ServingError
from serving.champion_watch import ChampionWatch
from serving.features.online import OnlineRow
from serving.features.online_client import OnlineStoreClient
from serving.features.overrides import overridden
from serving.http_errors import (
    InvalidEntityRowError,
    InvalidFeatureOverrideError,
    RequestTimeoutError,
)
from serving.loaded import Loaded
from serving.metrics import Metrics

_INLINE_ROWS = 128
"""More rows are scored in a thread, so that one large request does not hold up the others."""
_LONG_ROWS = 32
"""As many take a millisecond, so they have a turn of the event loop to themselves: sockets are
looked at in between. A new client does not wait until all who came before it are answered."""


class PredictRequest(NamedTuple):
    """A request that can be read; its rows are looked at one by one.

    Attributes
    ----------
    feature_overrides
        As many as entity rows; None = nothing is overridden in any of them.
    """

    entity_rows: list[Any]
    feature_overrides: list[Any] | None
    include_features: bool
    strict: bool


class _Asked:
    """A request on its way, and the answers of its rows so far."""

    __slots__ = ("answers", "future", "request")

    def __init__(self, request: PredictRequest, future: asyncio.Future[dict[str, Any]]) -> None:
        self.request = request
        self.future = future
        self.answers: list[Any] = [None] * len(request.entity_rows)

    def fail(self, err: Exception) -> None:
        """Fail the request as a whole, unless it was given up or has failed before."""
        if not self.future.done():
            self.future.set_exception(err)


_WantedRow = tuple[_Asked, int, list[int], dict[int, Any]]
"""One row of a request: its position there, which replies are its own, what overrides them."""


class _Wanted(NamedTuple):
    """What a batch wants of the online store: each command once, with its number, and the rows."""

    commands: dict[bytes, int]
    rows: list[_WantedRow]


class _Row(NamedTuple):
    """One row of a request: its position there, and its features as read and as the model sees."""

    asked: _Asked
    position: int
    read: OnlineRow
    used: OnlineRow


class Batches:
    """Answers requests, those that are there at the same time together.

    Parameters
    ----------
    seconds
        How long an answer may take.
    """

    def __init__(
        self, champion: ChampionWatch, online: OnlineStoreClient, metrics: Metrics, seconds: float
    ) -> None:
        self._champion = champion
        self._online = online
        self._metrics = metrics
        self._seconds = seconds
        self._waiting: list[_Asked] = []
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself holds them weakly

    def predict(self, request: PredictRequest) -> asyncio.Future[dict[str, Any]]:
        """Return the future of the response's content; a ServingError comes from the future."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._gather)
        self._metrics.in_flight += 1
        future: asyncio.Future[dict[str, Any]] = loop.create_future()
        self._waiting.append(_Asked(request, future))
        return future

    def _gather(self) -> None:
        """Begin; of several, once the sockets have been looked at again, which is done in between.

        16 clients that ask again when answered then stay one batch: else the last of them, who ask
        while the first are read, cost a trip and a run of their own each time.
        """
        if len(self._waiting) > 1:
            asyncio.get_running_loop().call_soon(self._begin)
        else:
            self._begin()

    def _begin(self) -> None:
        waiting, self._waiting = self._waiting, []
        for batch in _split(waiting):
            task = asyncio.get_running_loop().create_task(self._answer(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, batch: list[_Asked]) -> None:
        try:
            loaded = self._champion.current
            async with asyncio.timeout(self._seconds):
                wanted = self._look_up(loaded, batch)
                replies = await self._read(list(wanted.commands))
                rows = self._read_rows(loaded, wanted.rows, replies)
                long = len(rows) >= _LONG_ROWS and _inline(loaded, len(rows))
                async with self._turn if long else nullcontext():
                    await self._predict(loaded, rows)
                    _finish(loaded, batch)
                    if long:
                        await asyncio.sleep(0)
        except Exception as err:  # each request raises it again, and the guard tells it
            late = isinstance(err, TimeoutError)
            told = RequestTimeoutError("the answer was not ready in time") if late else err
            for asked in batch:
                asked.fail(told)
        finally:
            self._metrics.in_flight -= len(batch)

    async def _predict(self, loaded: Loaded, rows: list[_Row]) -> None:
        """Score the rows; what the model cannot take fails only the request that it is in."""
        try:
            predictions = await _score(loaded, [row.used.values for row in rows])
        except Exception as err:
            apart = [list(own) for _, own in itertools.groupby(rows, key=lambda row: id(row.asked))]
            if len(apart) > 1:
                for own in apart:
                    await self._predict(loaded, own)
            elif rows:
                rows[0].asked.fail(err)
            else:
                raise
        else:
            self._tell(loaded, rows, predictions)

    def _look_up(self, loaded: Loaded, batch: list[_Asked]) -> _Wanted:
        """Return what to read for every row that can be understood; the others are refused."""
        wanted = _Wanted({}, [])
        for asked in batch:
            given = asked.request.feature_overrides or itertools.repeat(None)
            rows_given = zip(asked.request.entity_rows, given, strict=False)
            for position, (entity_row, values) in enumerate(rows_given):
                try:
                    packed = loaded.online.commands(entity_row)
                    overrides = loaded.overrides.read(values)
                except (InvalidEntityRowError, InvalidFeatureOverrideError) as err:
                    self._refuse(asked, position, err)
                else:
                    numbers = wanted.commands
                    places = [numbers.setdefault(one, len(numbers)) for one in packed]
                    wanted.rows.append((asked, position, places, overrides))
        return wanted

    def _read_rows(
        self, loaded: Loaded, wanted: list[_WantedRow], replies: Sequence[Any]
    ) -> list[_Row]:
        """Return the features of every row whose values can be read; the others are refused."""
        now = time.time()
        cache: dict[int, OnlineRow] = {}
        rows = []
        for asked, position, places, overrides in wanted:
            if asked.future.done():  # failed as a whole, or its client has gone
                continue
            found = [replies[i] for i in places]
            if lost := [reply for reply in found if isinstance(reply, Exception)]:
                asked.fail(lost[0])
                continue
            try:
                row = loaded.online.row(found, now, cache)
            except InvalidOnlineValueError as err:
                self._refuse(asked, position, err)
            else:
                used = overridden(row, overrides) if overrides else row
                rows.append(_Row(asked, position, row, used))
        return rows

    async def _read(self, commands: Sequence[bytes]) -> list[Any]:
        if not commands:
            return []
        started = time.perf_counter()
        replies = await self._online.read(commands)
        if any(isinstance(reply, Exception) for reply in replies):
            self._metrics.redis_failures += 1
        else:
            self._metrics.redis.observe(time.perf_counter() - started)
        return replies

    def _tell(self, loaded: Loaded, rows: list[_Row], predictions: Predictions) -> None:
        """Write down the answer of each scored row."""
        for (asked, position, read, used), label, shares in zip(
            rows, predictions.labels.tolist(), _shares(predictions), strict=True
        ):
            if asked.future.done():
                continue
            if not math.isfinite(label if shares is None else sum(shares)):
                failed = PredictionError("the model's answer is not a finite number")
                self._refuse(asked, position, failed)
                continue
            answer: dict[str, Any] = {"prediction": label}
            if shares is not None:
                # NumPy's float32, which orjson writes as 0.8 where a float is 0.800000011920929
                answer["probabilities"] = dict(zip(loaded.class_names, shares, strict=True))
            if asked.request.include_features:
                answer["features"] = _features(loaded, used)
            asked.answers[position] = answer
            self._metrics.row(loaded, read, used, label, shares)

    def _refuse(self, asked: _Asked, position: int, err: ServingError) -> None:
        """Answer a row with its error; with `strict` it is the whole request's."""
        if asked.request.strict:
            asked.fail(type(err)(f"entity_rows[{position}]: {err.message}", hint=err.hint))
            return
        self._metrics.row_errors[err.code] += 1
        asked.answers[position] = {"error": {"code": err.code, "message": err.message}}


def _split(waiting: list[_Asked]) -> Iterator[list[_Asked]]:
    """Yield batches of as many rows as are scored at once; a larger request is one by itself."""
    batch: list[_Asked] = []
    rows = 0
    for asked in waiting:
        rows += len(asked.answers)
        if batch and rows > _INLINE_ROWS:
            yield batch
            batch, rows = [], len(asked.answers)
        batch.append(asked)
    yield batch


def _finish(loaded: Loaded, batch: list[_Asked]) -> None:
    """Answer every request that has not failed as a whole."""
    model = {"name": loaded.name, "version": loaded.version.version}
    for asked in batch:
        if not asked.future.done():
            asked.future.set_result({"model": model, "predictions": asked.answers})


async def _score(loaded: Loaded, rows: list[Sequence[Any]]) -> Predictions:
    if _inline(loaded, len(rows)):
        return loaded.model.score_rows(rows)
    return await asyncio.to_thread(loaded.model.score_rows, rows)


def _inline(loaded: Loaded, rows: int) -> bool:
    return loaded.model.quick and rows <= _INLINE_ROWS


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

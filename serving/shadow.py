"""A shadow model: asked what the champion was asked, after it has answered, and only for the log.

No client waits for a shadow or sees its answers. It works on one event loop with the champion, so
it rests after each piece of work, as long as its share of the time demands. What comes while too
much waits is skipped and counted.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from contract.serving_errors import ServingError
from contract.serving_settings import Limits
from serving.admission import Asked
from serving.batches import Batches
from serving.champion_watch import ChampionWatch
from serving.definition_watch import DefinitionWatch
from serving.logs import log
from serving.metrics import Metrics

_ROWS = 32
"""Rows that are asked together; as many take a millisecond of the event loop."""
_WAITING_BYTES = 1 << 20
_SECONDS = 10.0


class _Caller(NamedTuple):
    """The caller: the champion's client, which no longer waits."""

    arrived: float
    gone: bool
    request_id: bytes


class _Waiting(NamedTuple):
    """A request as it was sent, without what only shapes its answer."""

    body: bytes
    rows: int
    request_id: bytes


class Shadow:
    """Answers for the log with another version of the model, or with another model.

    Parameters
    ----------
    watch
        Keeps the version that answers; while there is none, nothing waits.
    definitions
        Marks its features that are of another definition.
    batches
        Answers with that version; its metrics are not shown.
    metrics
        Where rows are counted.
    share
        The share of the time that it may work, above 0.
    """

    def __init__(
        self,
        watch: ChampionWatch,
        definitions: DefinitionWatch,
        batches: Batches,
        metrics: Metrics,
        share: float,
    ) -> None:
        self.watch = watch
        self._definitions = definitions
        self._batches = batches
        self._metrics = metrics
        self._rest = (1 - share) / share
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._failing = ""

    async def start(self) -> None:
        """Begin to watch the source, and to work."""
        self.watch.start()
        await self._definitions.start()
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """End; what waits is not answered."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait([self._worker])
        await self._definitions.stop()
        await self.watch.stop()

    def note(self, answered: Iterable[Asked]) -> None:
        """Have these requests answered again, unless too much waits."""
        if not self.watch.ready:
            return
        for asked in answered:
            request = asked.request
            body: dict[str, object] = {"entity_rows": request.entity_rows}
            if request.feature_overrides is not None:
                body["feature_overrides"] = request.feature_overrides
            waiting = _Waiting(
                orjson.dumps(body), len(request.entity_rows), asked.caller.request_id
            )
            if self._bytes + len(waiting.body) > _WAITING_BYTES:
                self._metrics.shadow_rows["skipped"] += waiting.rows
                continue
            self._bytes += len(waiting.body)
            self._waiting.append(waiting)
            self._arrived.set()

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            began = time.perf_counter()
            await self._answer()
            await asyncio.sleep((time.perf_counter() - began) * self._rest)

    async def _answer(self) -> None:
        """Ask the model about the next few requests."""
        asked: list[asyncio.Future[dict[str, Any]]] = []
        taken: list[_Waiting] = []
        while self._waiting and sum(waiting.rows for waiting in taken) < _ROWS:
            waiting = self._waiting.popleft()
            self._bytes -= len(waiting.body)
            caller = _Caller(time.monotonic(), False, waiting.request_id)
            asked.append(self._batches.predict(waiting.body, caller))
            taken.append(waiting)
        if not self._waiting:
            self._arrived.clear()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for waiting, answer in zip(taken, answers, strict=True):
            self._count(waiting, answer)

    def _count(self, waiting: _Waiting, answer: dict[str, Any] | BaseException) -> None:
        counts = self._metrics.shadow_rows
        if isinstance(answer, BaseException):
            counts["failed"] += waiting.rows
            self._tell(answer)
            return
        failed = [row["error"]["message"] for row in answer["predictions"] if "error" in row]
        counts["failed"] += len(failed)
        counts["answered"] += waiting.rows - len(failed)

    def _tell(self, err: BaseException) -> None:
        reason = err.message if isinstance(err, ServingError) else type(err).__name__
        if reason != self._failing:  # once, not for every request
            self._failing = reason
            log("error", "shadow model: requests fail", reason=reason)


def shadow_limits(limits: Limits) -> Limits:
    """Return the limits of a shadow: no client waits for it, and `Shadow` bounds what waits."""
    concurrency = max(limits.concurrency, _ROWS)  # so many requests of one row are asked together
    return replace(limits, seconds=_SECONDS, buffered_bytes=2**40, concurrency=concurrency)

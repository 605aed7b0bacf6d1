"""Predictions for all requests that are there at the same time together.

They cost one trip to the online store and one run of the model: 100 trees take 13 µs a row where 16
rows are scored together, and 21 µs where each is alone. Nobody waits for company: a request that is
alone is answered alone; where several have come in one turn of the event loop, those that came
while they were read are taken along.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import nullcontext
from typing import Any

from contract.predictions import Predictions
from contract.serving_errors import ServingError
from contract.serving_settings import Limits
from contract.tensors import Numbers
from serving.admission import Admission, Asked, Client, too_late
from serving.answers import ReadRow, finish, write_answers
from serving.champion_watch import ChampionWatch
from serving.explanation_line import ExplanationLine
from serving.features.online_client import OnlineStoreClient
from serving.http_errors import InvalidRequestError
from serving.loaded import Loaded
from serving.metrics import Metrics
from serving.request_body import read_request
from serving.row_reading import RowReader

_INLINE_ROWS = 128
"""More rows are scored in a thread, so that one large request does not hold up the others."""
_LONG_ROWS = 32
"""As many take a millisecond, so they have a turn of the event loop to themselves: sockets are
looked at in between. A new client does not wait until all who came before it are answered."""
_TURN_BYTES = 1 << 16
"""As many bytes of bodies are read in one turn of the event loop: a few milliseconds of it."""


Record = Callable[[Loaded, float, Sequence[Asked]], object]
"""Called with requests once their answers are sent: the model, the Unix time at which their
features were read, and the requests."""


class Batches:
    """Answers requests, those that are there at the same time together."""

    def __init__(
        self,
        champion: ChampionWatch,
        online: OnlineStoreClient,
        metrics: Metrics,
        limits: Limits,
        record: Record | None = None,
    ) -> None:
        self._champion = champion
        self._reader = RowReader(online, metrics)
        self._metrics = metrics
        self._limits = limits
        self._record = record
        self.admission = Admission(limits, metrics)
        self._explanations = ExplanationLine(limits)
        self._scheduled = False
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself holds them weakly

    def predict(self, body: bytes, caller: Client) -> asyncio.Future[dict[str, Any]]:
        """Return the future of the response's content; a ServingError comes from the future.

        Raises
        ------
        TooManyRequestsError
            If there is no room for one more.
        """
        asked = self.admission.enter(body, caller)
        if not self._scheduled:
            self._scheduled = True
            if self._champion.is_overdue():
                self._run(self._catch_up())
            else:
                asyncio.get_running_loop().call_soon(self._gather)
        return asked.future

    async def _catch_up(self) -> None:
        """Have the champion looked at, then begin; a slow registry keeps nobody for long."""
        await self._champion.catch_up(self._limits.seconds / 2)
        self._gather()

    def _gather(self) -> None:
        """Begin; of several, once the sockets have been looked at again, which is done in between.

        16 clients that ask again when answered then stay one batch: else the last of them, who ask
        while the first are read, cost a trip and a run of their own each time.
        """
        if len(self.admission) > 1:
            asyncio.get_running_loop().call_soon(self._begin)
        else:
            self._begin()

    def _begin(self) -> None:
        """Read the requests whose turn it is, and begin to answer them.

        Reading takes time too: after so many bytes the sockets are looked at before it goes on.
        """
        self._scheduled = False
        batch: list[Asked] = []
        rows = read_bytes = 0
        while asked := self.admission.next():
            is_read = self._read_body(asked)
            if is_read and asked.request.include_explanations:
                self._run(self._answer_explained(asked))
            elif is_read:
                rows += len(asked.answers)
                if batch and rows > _INLINE_ROWS:
                    self._start(batch)
                    batch, rows = [], len(asked.answers)
                batch.append(asked)
            read_bytes += asked.size
            if read_bytes > _TURN_BYTES:
                self._resume()
                break
        if batch:
            self._start(batch)

    async def _answer_explained(self, asked: Asked) -> None:
        """Answer a request apart from the others, which do not wait for its explanations."""
        try:
            with self._explanations.place(self._champion.current, len(asked.answers)):
                await self._answer([asked])
        except ServingError as err:  # there is no place for it; `_answer` raises nothing
            asked.fail(err)
            self.admission.leave(asked)

    def _resume(self) -> None:
        if len(self.admission) and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _read_body(self, asked: Asked) -> bool:
        """Return whether the request can be read; it is answered if not."""
        try:
            request = read_request(asked.body, self._limits)
            if request.feature_overrides is not None:
                self._require_overrides()
        except Exception as err:  # as in `_answer`; the others go on
            asked.fail(err)
            self.admission.leave(asked)
            return False
        self.admission.begin(asked, request)
        return True

    def _require_overrides(self) -> None:
        loaded = self._champion.current
        if not loaded.overrides:
            raise InvalidRequestError(
                "feature_overrides: the recipe that version "
                f"{loaded.version.version} was trained with allows none"
            )

    def _start(self, batch: list[Asked]) -> None:
        self._run(self._answer(batch))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, batch: list[Asked]) -> None:
        try:
            loaded = self._champion.current
            last = max(asked.deadline for asked in batch)
            async with asyncio.timeout(last - time.monotonic()):
                now, rows, numbers = await self._reader.read(loaded, batch)
                explained = batch[0].request.include_explanations
                long = len(rows) >= _LONG_ROWS and _inline(loaded, len(rows)) and not explained
                async with self._turn if long else nullcontext():
                    await self._predict(loaded, rows, numbers)
                    if explained:
                        self.admission.scored(batch[0])
                        self._resume()
                        await self._explanations.explain(loaded, batch[0])
                    answered = finish(loaded, batch)
                    if self._record is not None:
                        loop = asyncio.get_running_loop()
                        loop.call_soon(self._record, loaded, now, answered)
                    if long:
                        await asyncio.sleep(0)
        except Exception as err:  # each request raises it again, and the guard answers it
            late = isinstance(err, TimeoutError)
            told = too_late() if late else err
            for asked in batch:
                asked.fail(told)
        finally:
            for asked in batch:
                self.admission.leave(asked)
            self._resume()

    async def _predict(
        self, loaded: Loaded, rows: list[ReadRow], numbers: Numbers | None = None
    ) -> None:
        """Score the rows; what the model cannot take fails only the request that it is in."""
        handed = [values for _, _, _, _, values, _ in rows] if numbers is None else numbers
        try:
            predictions = await _score(loaded, handed)
        except Exception as err:
            apart = [list(own) for _, own in itertools.groupby(rows, key=lambda row: id(row[0]))]
            if len(apart) > 1:
                for own in apart:
                    await self._predict(loaded, own)
            elif rows:
                rows[0][0].fail(err)
            else:
                raise
        else:
            write_answers(self._metrics, loaded, rows, predictions)


async def _score(loaded: Loaded, rows: list[Sequence[Any]] | Numbers) -> Predictions:
    if _inline(loaded, len(rows)):
        return loaded.model.score_rows(rows)
    return await asyncio.to_thread(loaded.model.score_rows, rows)


def _inline(loaded: Loaded, rows: int) -> bool:
    return loaded.model.quick and rows <= _INLINE_ROWS

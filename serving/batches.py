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
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from operator import getitem
from typing import Any, NamedTuple

import numpy as np
import orjson

from contract.computed import COMPUTED
from contract.scoring import Predictions
from contract.serving_errors import InvalidOnlineValueError, PredictionError, ServingError
from contract.serving_settings import Limits
from contract.values import FeatureValue
from serving.admission import Admission, Asked, Client, too_late
from serving.champion_watch import ChampionWatch
from serving.explanation_line import ExplanationLine
from serving.features.online import GroupReplies, Lookup, OnlineRow
from serving.features.online_client import OnlineStoreClient
from serving.features.overrides import OVERRIDDEN, overridden
from serving.features.request_inputs import REQUEST
from serving.http_errors import (
    InvalidEntityRowError,
    InvalidFeatureOverrideError,
    InvalidRequestError,
    MissingEntityError,
)
from serving.loaded import Loaded
from serving.metrics import CountedRow, Metrics
from serving.request_body import read_request

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
_WantedRow = tuple[Asked, int, list[int], dict[int, Any] | None, Sequence[FeatureValue]]
"""One row of a request: its position there, which replies are its own, what overrides them, and
its request inputs."""


class _Wanted(NamedTuple):
    """What a batch wants of the online store, and its rows."""

    lookup: Lookup
    rows: list[_WantedRow]


_Row = tuple[Asked, int, OnlineRow, OnlineRow, Sequence[FeatureValue], Sequence[str]]
"""One row of a request: its position there; its features as the online store has them, and with
what the request overrides; what the model is handed, in the order of `bundle.column_dtypes`; the
views that have nothing for it."""


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
        self._online = online
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
                wanted = self._look_up(loaded, batch)
                replies = wanted.lookup.by_group(await self._read(wanted.lookup.commands()))
                now = time.time()
                rows = self._read_rows(loaded, wanted.rows, replies, now)
                explained = batch[0].request.include_explanations
                long = len(rows) >= _LONG_ROWS and _inline(loaded, len(rows)) and not explained
                async with self._turn if long else nullcontext():
                    await self._predict(loaded, rows)
                    if explained:
                        self.admission.scored(batch[0])
                        self._resume()
                        await self._explanations.explain(loaded, batch[0])
                    answered = _finish(loaded, batch)
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

    async def _predict(self, loaded: Loaded, rows: list[_Row]) -> None:
        """Score the rows; what the model cannot take fails only the request that it is in."""
        try:
            predictions = await _score(loaded, [row[4] for row in rows])
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
            self._tell(loaded, rows, predictions)

    def _look_up(self, loaded: Loaded, batch: list[Asked]) -> _Wanted:
        """Return what to read for every row that can be understood; the others are refused."""
        wanted = _Wanted(loaded.online.lookup(), [])
        place, inputs_of = wanted.lookup.add, loaded.request.read
        has_inputs = bool(loaded.request)
        for asked in batch:
            given = asked.request.feature_overrides or itertools.repeat(None)
            rows_given = zip(asked.request.entity_rows, given, strict=False)
            for position, (entity_row, values) in enumerate(rows_given):
                try:
                    places = place(entity_row)
                    overrides = None if values is None else loaded.overrides.read(values)
                    inputs = inputs_of(entity_row) if has_inputs else ()
                except (InvalidEntityRowError, InvalidFeatureOverrideError) as err:
                    self._refuse(asked, position, err)
                else:
                    wanted.rows.append((asked, position, places, overrides, inputs))
        return wanted

    def _read_rows(
        self, loaded: Loaded, wanted: list[_WantedRow], replies: GroupReplies, now: float
    ) -> list[_Row]:
        """Return the features of every row whose values can be read; the others are refused."""
        compute = loaded.computation.row if loaded.computation else None
        asked_at = datetime.fromtimestamp(now, UTC)
        wanted = _still_wanted(wanted, replies)
        found = loaded.online.rows(replies, [one[2] for one in wanted], now)
        rows = []
        for (asked, position, _, overrides, inputs), row in zip(wanted, found, strict=True):
            if isinstance(row, InvalidOnlineValueError):
                self._refuse(asked, position, row)
                continue
            used = overridden(row, overrides) if overrides else row
            missing = () if used.is_complete else loaded.missing.of(used.values)
            if missing and loaded.missing.action(missing) == "error":
                self._metrics.recent.note(used)
                told = f"{' and '.join(missing)}: nothing is stored for these keys"
                self._refuse(asked, position, MissingEntityError(told))
                continue
            values = [*used.values, *inputs] if inputs else used.values
            if compute:
                values = compute(values, asked_at)
            rows.append((asked, position, row, used, values, missing))
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
        counted: list[CountedRow] = []
        for (asked, position, read, used, values, missing), label, shares in zip(
            rows, predictions.labels.tolist(), _shares(predictions), strict=True
        ):
            if asked.future.done():
                continue
            if not math.isfinite(label) if shares is None else None in shares:
                failed = PredictionError("the model's answer is not a finite number")
                self._refuse(asked, position, failed)
                continue
            if missing and loaded.missing.action(missing) == "null":
                label, shares = None, None if shares is None else [None] * len(shares)
            answer: dict[str, Any] = {"prediction": label}
            if shares is not None:
                answer["probabilities"] = dict(zip(loaded.class_names, shares, strict=True))
            answer["missing_views"] = missing
            if asked.request.include_features:
                answer["features"] = _features(loaded, used, values)
            asked.answers[position] = answer
            asked.scored.append((position, used, values, label, shares))
            counted.append((read, used, label, shares))
        self._metrics.predicted(loaded, counted)

    def _refuse(self, asked: Asked, position: int, err: ServingError) -> None:
        """Answer a row with its error; with `strict` it is the whole request's."""
        if asked.request.strict:
            asked.fail(type(err)(f"entity_rows[{position}]: {err.message}", hint=err.hint))
            return
        self._metrics.row_errors[err.code] += 1
        asked.answers[position] = {"error": {"code": err.code, "message": err.message}}


def _still_wanted(wanted: list[_WantedRow], replies: GroupReplies) -> list[_WantedRow]:
    """Return the rows whose requests can be answered; a lost reply fails its whole request."""
    if any(isinstance(reply, Exception) for own in replies for reply in own):
        for asked, _, places, _, _ in wanted:
            for reply in map(getitem, replies, places):
                if isinstance(reply, Exception):
                    asked.fail(reply)
    # Others have failed as a whole, or their clients have gone.
    return [one for one in wanted if not one[0].future.done()]


def _finish(loaded: Loaded, batch: list[Asked]) -> list[Asked]:
    """Answer every request that has not failed as a whole; return those."""
    answered = []
    model = {"name": loaded.name, "version": loaded.version.version}
    now = time.monotonic()
    for asked in batch:
        if asked.deadline < now:
            asked.fail(too_late())
        if not asked.future.done():
            asked.future.set_result({"model": model, "predictions": asked.answers})
            answered.append(asked)
    return answered


async def _score(loaded: Loaded, rows: list[Sequence[Any]]) -> Predictions:
    if _inline(loaded, len(rows)):
        return loaded.model.score_rows(rows)
    return await asyncio.to_thread(loaded.model.score_rows, rows)


def _inline(loaded: Loaded, rows: int) -> bool:
    return loaded.model.quick and rows <= _INLINE_ROWS


def _shares(predictions: Predictions) -> Iterable[Any]:
    """Return each row's probabilities, None where one is not finite; None for a regression's.

    By way of JSON a float32 becomes 0.8, which as a float is 0.800000011920929.
    """
    if predictions.probabilities is None:
        return itertools.repeat(None, len(predictions.labels))
    rows = np.ascontiguousarray(predictions.probabilities)
    shares: list[Any] = orjson.loads(orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY))
    return shares


def _features(
    loaded: Loaded, row: OnlineRow, values: Sequence[FeatureValue]
) -> dict[str, dict[str, object]]:
    """Return each value of the row with its status and age, by name."""
    bundle = loaded.bundle
    stored: dict[str, dict[str, object]] = {
        feature.name: {
            "value": value,
            "status": status,
            "age_seconds": None if age is None or status is OVERRIDDEN else round(age, 3),
        }
        for feature, value, status, age in zip(
            bundle.features, row.values, row.statuses, loaded.online.ages(row), strict=True
        )
    }
    statuses = dict.fromkeys((one.name for one in bundle.request), REQUEST)
    statuses |= dict.fromkeys((one.name for one in bundle.computed), COMPUTED)
    others = zip(statuses.items(), values[len(bundle.features) :], strict=True)
    return stored | {
        name: {"value": value, "status": status, "age_seconds": None}
        for (name, status), value in others
    }

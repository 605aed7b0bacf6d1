"""Which requests are taken in, and which of them is worked on next.

A request waits as the bytes that it came in, in a queue that is fair to small ones. What is being
worked on is limited in rows, small and large requests apart, so that a small one never waits for a
large one to end. Where too many wait, the largest is refused, not whoever comes last. Its time
runs from its first byte: one that has waited too long is refused without work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Protocol

from contract.serving_settings import Limits
from serving.fair_queue import FairQueue
from serving.features.online_row import OnlineRow
from serving.http_errors import RequestTimeoutError, TooManyRequestsError
from serving.metrics import Metrics
from serving.request_body import PredictRequest

_SMALL_BYTES = 4_096
"""Smaller bodies are worked on apart; their number is limited, so their bytes are not."""
_LEAST_ROWS = 1_024
"""As many rows may be in work, however few one request may have."""


class Client(Protocol):
    """Who asks."""

    @property
    def arrived(self) -> float:
        """When the request's first byte was read, on the clock of `time.monotonic`."""

    @property
    def gone(self) -> bool:
        """Whether the client has left."""

    @property
    def request_id(self) -> bytes:
        """What its answer's `X-Request-Id` says."""


ScoredRow = tuple[int, OnlineRow, Sequence[Any], Any, Any]
"""A row's position in the request, its features as the model saw them, all values that the model
was handed, its label, its probabilities. A plain tuple: a named one takes 0.4 µs to make."""


class Asked:
    """A request on its way, and the answers of its rows so far.

    `request` and `answers` are there once its body has been read.

    Attributes
    ----------
    scored
        The rows that the model has answered.
    counted
        How many of its rows count as in work.
    """

    __slots__ = (
        *("answers", "body", "caller", "counted", "deadline", "future", "large", "request"),
        *("scored", "size"),
    )

    request: PredictRequest

    def __init__(self, body: bytes, caller: Client, seconds: float) -> None:
        self.body = body
        self.size = len(body)
        self.large = self.size > _SMALL_BYTES
        self.caller = caller
        self.deadline = caller.arrived + seconds
        self.future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.answers: list[Any] = []
        self.scored: list[ScoredRow] = []
        self.counted = 0

    def is_over(self, now: float) -> bool:
        """Return whether nobody waits for the answer any more."""
        return self.deadline <= now or self.caller.gone or self.future.done()

    def fail(self, err: Exception) -> None:
        """Fail the request as a whole, unless it was given up or has failed before."""
        if not self.future.done():
            self.future.set_exception(err)


class Admission:
    """The requests that were taken in and are not answered yet."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self._queue: FairQueue[Asked] = FairQueue()
        self._taken = 0
        self._rows = {False: 0, True: 0}  # of small and of large requests
        self._most_rows = max(limits.rows, _LEAST_ROWS)

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._queue)

    def enter(self, body: bytes, caller: Client) -> Asked:
        """Take a request in.

        Raises
        ------
        TooManyRequestsError
            If there is no room, and no larger request waits that could make some.
        """
        size = len(body)
        while self._taken >= self._limits.concurrency:
            self._shed(size)
        while not self._fits(size):
            self._shed(size)
        asked = Asked(body, caller, self._limits.seconds)
        self._queue.push(asked)
        self._taken += 1
        self._metrics.in_flight += 1
        self._metrics.buffered_bytes += size
        return asked

    def hold(self, more: int, size: int) -> None:
        """Take memory for `more` bytes of a body that is being received and has `size` so far.

        Raises
        ------
        TooManyRequestsError
            If there is none.
        """
        if size > _SMALL_BYTES and not self._has_room(more):  # what it held before is counted
            raise TooManyRequestsError("too many large requests at once")
        self._metrics.buffered_bytes += more

    def release(self, size: int) -> None:
        """Give it back."""
        self._metrics.buffered_bytes -= size

    def next(self) -> Asked | None:
        """Return the next to work on; None if there is none or enough is in work."""
        if not len(self._queue):
            return None
        now = time.monotonic()
        while asked := self._queue.pop(self._may_begin):
            if not asked.is_over(now):
                return asked
            self._give_up(asked)
        for asked in self._queue.pop_while(lambda waiting: waiting.is_over(now)):
            self._give_up(asked)
        return None

    def _give_up(self, asked: Asked) -> None:
        asked.fail(too_late())
        self.leave(asked)

    def begin(self, asked: Asked, request: PredictRequest) -> None:
        """Count its rows as in work."""
        asked.request = request
        asked.answers = [None] * len(request.entity_rows)
        asked.counted = len(asked.answers)
        self._rows[asked.large] += asked.counted
        self._metrics.buffered_bytes -= len(asked.body)
        asked.body = b""

    def scored(self, asked: Asked) -> None:
        """Stop counting its rows: they are explained in a queue of their own."""
        self._rows[asked.large] -= asked.counted
        asked.counted = 0

    def leave(self, asked: Asked) -> None:
        """Note that it has its answer."""
        self._rows[asked.large] -= asked.counted
        self._metrics.buffered_bytes -= len(asked.body)
        self._metrics.in_flight -= 1
        self._taken -= 1

    def _may_begin(self, asked: Asked) -> bool:
        return self._rows[asked.large] <= self._most_rows

    def _fits(self, size: int) -> bool:
        return size <= _SMALL_BYTES or self._has_room(size)

    def _has_room(self, more: int) -> bool:
        return self._metrics.buffered_bytes + more <= self._limits.buffered_bytes

    def _shed(self, size: int) -> None:
        larger = self._queue.pop_larger(size)
        if larger is None:
            raise TooManyRequestsError("too many requests at once")
        larger.fail(TooManyRequestsError("too many requests at once; smaller ones go first"))
        self.leave(larger)


def too_late() -> RequestTimeoutError:
    """Return the error of a request whose time is over."""
    return RequestTimeoutError("the answer was not ready in time")

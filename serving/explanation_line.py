"""Explanations for the requests that ask for them, which wait in a queue of their own.

A row takes up to a thousand times as long to explain as to score. So a thread explains a few rows
of one request, then of the next: predictions go on beside it, and a small request does not wait for
a large one. The queue is limited, by work and by number of requests, so that most of the requests
that the server accepts can be others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from contract.explained import REQUEST_STEPS
from contract.explainer import Explainer
from contract.serving_settings import Limits
from serving.admission import Asked
from serving.http_errors import (
    ExplanationsUnavailableError,
    RequestTooLargeError,
    TooManyRequestsError,
)
from serving.loaded import Loaded

_REQUEST_WORK = 60_000_000
"""Rows times steps of one request: a quarter of a second."""
_LINE_WORK = 2 * _REQUEST_WORK
_TURN_WORK = 3_000_000
"""What is explained before it is another request's turn: 12 ms."""
_ROW_WORK = 15_000
"""The work of a row beyond its steps; for a linear model, all of it."""
_LINE_SHARE = 4
"""Of the requests that the server accepts, one in this many may wait for explanations."""


class ExplanationLine:
    """Explains the answers of requests, some rows at a time."""

    def __init__(self, limits: Limits) -> None:
        self._most = max(1, limits.concurrency // _LINE_SHARE)
        self._requests = 0
        self._work = 0
        self._turn = asyncio.Lock()

    @contextmanager
    def place(self, loaded: Loaded, rows: int) -> Iterator[None]:
        """Reserve a place in the queue for a request of `rows` rows.

        Raises
        ------
        ExplanationsUnavailableError
            If the model's answers are not explained.
        RequestTooLargeError, TooManyRequestsError
            If it has too many rows, or there is no room.
        """
        row_work = _row_work(_explainer(loaded))
        work, most = rows * row_work, _REQUEST_WORK // row_work
        if rows > most:
            raise RequestTooLargeError(f"{rows} rows to explain; this model's limit is {most}")
        if self._requests >= self._most or self._work + work > _LINE_WORK:
            raise TooManyRequestsError("too many rows wait for explanations")
        self._requests += 1
        self._work += work
        try:
            yield
        finally:
            self._requests -= 1
            self._work -= work

    async def explain(self, loaded: Loaded, asked: Asked) -> None:
        """Add an explanation to each answer of the request; where it is null, null."""
        explainer = _explainer(loaded)
        at_once = max(1, _TURN_WORK // _row_work(explainer))
        for begin in range(0, len(asked.scored), at_once):
            rows = asked.scored[begin : begin + at_once]
            async with self._turn:
                if asked.future.done() or asked.caller.gone:
                    return
                found = await asyncio.to_thread(explainer.rows, [row[2] for row in rows])
            for number, (position, _, _, label, _) in enumerate(rows):
                shown = None if label is None else explainer.answer(found, number)
                asked.answers[position]["explanation"] = shown


def _explainer(loaded: Loaded) -> Explainer:
    """Return what explains the model's answers.

    Raises
    ------
    ExplanationsUnavailableError
        If nothing does.
    """
    if loaded.explainer is None:
        raise ExplanationsUnavailableError(f"include_explanations: {_reason(loaded)}")
    return loaded.explainer


def _reason(loaded: Loaded) -> str:
    spec = loaded.bundle.explanation
    if spec is None:
        version = loaded.version.version
        return f"version {version} was trained by an earlier release; train again"
    return spec.unavailable or (
        f"a row of this model takes {spec.steps:,} steps to explain, and requests may take "
        f"{REQUEST_STEPS:,}; use `runner predict --explain`"
    )


def _row_work(explainer: Explainer) -> int:
    return explainer.spec.steps + _ROW_WORK

"""Requests are taken in, and worked on, by what they cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.serving_settings import Limits
from serving.admission import Admission, Asked
from serving.fair_queue import FairQueue
from serving.http_errors import RequestTimeoutError, TooManyRequestsError
from serving.metrics import Metrics
from serving.request_body import PredictRequest
from serving.shadow import shadow_limits

SMALL, LARGE = b"s" * 100, b"l" * 100_000


class _Item(NamedTuple):
    number: int
    size: int


@given(st.lists(st.integers(0, 2**20)))
def test_a_queue_gives_back_all_and_each_class_in_its_order(sizes: list[int]) -> None:
    queue: FairQueue[_Item] = FairQueue()
    items = [_Item(number, size) for number, size in enumerate(sizes)]
    for item in items:
        queue.push(item)
    popped = [queue.pop(lambda _: True) for _ in items]
    assert sorted(filter(None, popped)) == items
    assert (len(queue), queue.pop(lambda _: True)) == (0, None)
    by_class = [[item for item in popped if item and item.size < 1_024], popped]
    assert by_class[0] == [item for item in items if item.size < 1_024]


def test_small_ones_do_not_wait_for_large_ones() -> None:
    queue: FairQueue[_Item] = FairQueue()
    for number in range(100):
        queue.push(_Item(number, 20_000))
    for number in range(100, 110):
        queue.push(_Item(number, 100))
        assert _Item(number, 100) in [queue.pop(lambda _: True) for _ in range(2)]


def test_large_ones_are_not_starved_either() -> None:
    queue: FairQueue[_Item] = FairQueue()
    for number in range(500):
        queue.push(_Item(number, 100))
    queue.push(_Item(500, 20_000))
    served = [queue.pop(lambda _: True) for _ in range(2)]
    assert _Item(500, 20_000) in served


def test_a_class_that_was_busy_alone_is_not_made_to_wait_for_it_later() -> None:
    queue: FairQueue[_Item] = FairQueue()
    for number in range(1_000):  # the queue runs empty each time
        queue.push(_Item(number, 100))
        queue.pop(lambda _: True)
    for number in range(10):
        queue.push(_Item(number, 2_000))
    queue.push(_Item(10, 100))
    assert _Item(10, 100) in [queue.pop(lambda _: True) for _ in range(3)]


class _Caller:
    def __init__(self, waited: float = 0.0) -> None:
        self.arrived = time.monotonic() - waited
        self.gone = False


def _run(check: Callable[[Admission, Metrics], Awaitable[None]], limits: Limits) -> None:
    async def run() -> None:
        metrics = Metrics()
        await check(Admission(limits, metrics), metrics)

    asyncio.run(run())


def _begin(admission: Admission, rows: int) -> Asked | None:
    asked = admission.next()
    if asked is not None:
        admission.begin(asked, PredictRequest([{}] * rows, None, False, False))
    return asked


def test_where_too_many_wait_the_largest_is_refused() -> None:
    async def check(admission: Admission, metrics: Metrics) -> None:
        first, last = (admission.enter(LARGE, _Caller()) for _ in range(2))
        small = admission.enter(SMALL, _Caller())
        assert isinstance(last.future.exception(), TooManyRequestsError)
        assert not first.future.done()
        admission.enter(SMALL, _Caller())
        assert isinstance(first.future.exception(), TooManyRequestsError)
        for body in (SMALL, LARGE):
            with pytest.raises(TooManyRequestsError):
                admission.enter(body, _Caller())
        assert not small.future.done()
        assert (metrics.in_flight, metrics.buffered_bytes) == (2, 200)

    _run(check, Limits(concurrency=2))


def test_an_upload_in_pieces_takes_memory_for_each_byte_once() -> None:
    async def check(admission: Admission, metrics: Metrics) -> None:
        for piece in range(1, 11):
            admission.hold(10_000, piece * 10_000)
        with pytest.raises(TooManyRequestsError):
            admission.hold(1, 100_001)
        assert metrics.buffered_bytes == 100_000

    _run(check, Limits(buffered_bytes=100_000))


def test_bytes_are_limited_before_they_are_read_but_not_those_of_small_requests() -> None:
    async def check(admission: Admission, metrics: Metrics) -> None:
        admission.enter(LARGE, _Caller())
        with pytest.raises(TooManyRequestsError):
            admission.enter(LARGE, _Caller())
        with pytest.raises(TooManyRequestsError):
            admission.hold(100_000, 100_000)
        admission.enter(SMALL, _Caller())
        admission.hold(1_000, 1_000)
        admission.release(1_000)
        assert metrics.buffered_bytes == len(LARGE) + len(SMALL)
        for _ in range(2):
            assert _begin(admission, 1)
        assert metrics.buffered_bytes == 0
        admission.enter(LARGE, _Caller())

    _run(check, Limits(buffered_bytes=150_000))


def test_rows_in_work_are_limited_large_and_small_requests_apart() -> None:
    async def check(admission: Admission, _metrics: Metrics) -> None:
        for _ in range(4):
            admission.enter(LARGE, _Caller())
        begun = [_begin(admission, 2_000) for _ in range(3)]
        assert [asked is not None for asked in begun] == [True, True, False]
        admission.enter(SMALL, _Caller())
        small = _begin(admission, 1)
        assert small is not None
        assert small.size == len(SMALL)
        assert begun[0] is not None
        admission.leave(begun[0])
        assert _begin(admission, 2_000) is not None

    _run(check, Limits(rows=2_000))


@pytest.mark.parametrize("gone", [False, True])
def test_who_has_waited_too_long_or_left_is_not_worked_on(gone: bool) -> None:
    async def check(admission: Admission, metrics: Metrics) -> None:
        caller = _Caller(waited=0.0 if gone else 3.0)
        asked = admission.enter(SMALL, caller)
        caller.gone = gone
        assert admission.next() is None
        assert isinstance(asked.future.exception(), RequestTimeoutError)
        assert (metrics.in_flight, metrics.buffered_bytes) == (0, 0)

    _run(check, Limits(seconds=2.0))


def test_who_waits_for_room_is_told_when_the_time_is_over() -> None:
    async def check(admission: Admission, _metrics: Metrics) -> None:
        for _ in range(2):
            admission.enter(LARGE, _Caller())
            _begin(admission, 2_000)
        waiting = admission.enter(LARGE, _Caller(waited=1.99))
        assert admission.next() is None
        while not waiting.is_over(time.monotonic()):
            await asyncio.sleep(0.001)
        assert admission.next() is None
        assert isinstance(waiting.future.exception(), RequestTimeoutError)

    _run(check, Limits(rows=2_000, seconds=2.0))


def test_a_shadow_may_ask_as_much_at_once_as_it_does() -> None:
    assert shadow_limits(Limits(concurrency=1)).concurrency == 32
    assert shadow_limits(Limits(concurrency=100)).concurrency == 100
